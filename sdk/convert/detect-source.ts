import { readRange } from '@graft/sdk/format/byte-source.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import { pickConfig, readConfigFile } from './config-file.ts'
import { FORMATS } from './formats.ts'
import { nameFile } from './name-file.ts'
import { isPickle, pickled } from './pickle.ts'
import type { Detected, OpenedFiles, SourceFiles, SourceFormat } from './source-format.ts'

/** Enough for every format's magic and the first keys of a safetensors header. */
const HEAD_BYTES = 64 * 1024

const unknown = (message: string): GraftError => new GraftError('ERR_SOURCE_UNKNOWN', message)

export async function openFiles(files: SourceFiles): Promise<OpenedFiles> {
  const heads = new Map<string, Uint8Array>()
  for (const [path, source] of files)
    heads.set(path, await readRange(source, 0, Math.min(source.size, HEAD_BYTES)))
  return { files, heads }
}

/**
 * What tool wrote a folder, told by content: every format is asked, and one may answer.
 * @throws ERR_SOURCE_UNKNOWN, ERR_PICKLE_REFUSED, ERR_CONFIG_INVALID
 */
export async function detectSource(
  files: SourceFiles,
): Promise<{ source: SourceFormat; detected: Detected }> {
  const opened = await openFiles(files)
  const found: { source: SourceFormat; detected: Detected }[] = []
  for (const source of FORMATS) {
    const detected = await source.detect(opened)
    if (detected) found.push({ source, detected })
  }
  if (found.length === 1) return found[0]!
  if (found.length > 1)
    throw unknown(
      `the files are of ${found.map(({ source }) => source.tool).join(' and ')}; give one adapter at a time`,
    )
  throw await nameUnknown(opened)
}

async function nameUnknown({ files, heads }: OpenedFiles): Promise<GraftError> {
  const path = pickConfig(files)
  if (path !== null) {
    const keys = Object.keys(await readConfigFile(files, path)).slice(0, 8)
    return unknown(
      `${path} is neither PEFT's (peft_type) nor AdapterHub's (config, model_type) nor MLX's (fine_tune_type, lora_parameters); its keys are ${keys.join(', ')}`,
    )
  }
  const pickle = [...heads].find(([, head]) => isPickle(head))?.[0]
  if (pickle !== undefined) return pickled(pickle)
  const nemo = [...files.keys()].find((name) => name.endsWith('.nemo'))
  if (nemo !== undefined)
    return unknown(`${nemo} is NeMo, which has no importer; save the adapter with PEFT`)
  const named = [...heads].flatMap(([name, head]) => nameFile(name, head) ?? [])
  if (named[0] !== undefined) return unknown(named[0])
  return unknown(
    `none of the ${files.size} files is an adapter of ${FORMATS.map(({ tool }) => tool).join(', ')}; give the folder or the file that the tool saved`,
  )
}

import { GraftError } from '@graft/sdk/format/errors.ts'
import { openSafetensors } from '@graft/sdk/format/safetensors-source.ts'
import type { Detected, OpenedFiles, SourceFormat } from '../source-format.ts'
import { isDiffusersKey } from './diffusers-keys.ts'
import { importKohya } from './import-kohya.ts'
import { isKohyaKey } from './names.ts'

/** A length that no header exceeds in its upper half, and the brace that every header begins with. */
const looksLikeSafetensors = (head: Uint8Array): boolean =>
  head.length > 9 && head[8] === 0x7b && head.subarray(4, 8).every((byte) => byte === 0)

/** One file of LoRA tensors, whatever it is called: both tools let their users choose the name. */
async function detect({ files, heads }: OpenedFiles): Promise<Detected | null> {
  const found: string[] = []
  for (const [path, source] of files) {
    if (!looksLikeSafetensors(heads.get(path)!)) continue
    // The metadata of a training may be longer than the head, so the whole header is read.
    const keys = await openSafetensors(source).then(
      ({ tensors }) => [...tensors.keys()],
      () => [],
    )
    if (keys.some((key) => isKohyaKey(key) || isDiffusersKey(key))) found.push(path)
  }
  if (found.length > 1)
    throw new GraftError(
      'ERR_SOURCE_UNKNOWN',
      `${found.length} LoRA files found (${found.join(', ')}); give one of them`,
    )
  const [weightsPath] = found
  return weightsPath === undefined ? null : { configPath: null, config: {}, weightsPath }
}

export const KOHYA: SourceFormat = {
  format: 'kohya',
  tool: 'Kohya or diffusers',
  detect,
  import: importKohya,
}

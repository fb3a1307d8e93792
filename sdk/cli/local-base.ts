import { readdir, stat } from 'node:fs/promises'
import { basename, join, resolve } from 'node:path'
import { type BaseDescription, describeBase } from '@graft/sdk/format/base-identity.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import { openSafetensors } from '@graft/sdk/format/safetensors-source.ts'
import { openInput, readIfThere } from './files.ts'
import { hashFile } from './node-hash.ts'
import type { Output } from './output.ts'
import { createBar } from './progress.ts'

export interface LocalBase extends BaseDescription {
  config: Record<string, unknown>
}

interface WeightFile {
  path: string
  /** Before the names of its tensors. */
  prefix: string
}

const parse = (bytes: Uint8Array, path: string): Record<string, unknown> => {
  try {
    return JSON.parse(new TextDecoder().decode(bytes)) as Record<string, unknown>
  } catch (cause) {
    throw new GraftError('ERR_CHECKPOINT_INVALID', `${path} must be JSON; restore the file`, {
      cause,
    })
  }
}

/** The shards of an index, the one file that loaders look for, or every safetensors file there is. */
async function weightFiles(folder: string, prefix: string): Promise<WeightFile[]> {
  const names = (await readdir(folder)).filter((name) => !name.startsWith('.')).sort()
  const index = names.find((name) => /^[^.]+\.safetensors\.index\.json$/.test(name))
  const safe = names.filter((name) => name.endsWith('.safetensors'))
  let chosen = safe
  if (index !== undefined) {
    const json = parse((await readIfThere(join(folder, index)))!, join(folder, index))
    chosen = [...new Set(Object.values((json['weight_map'] ?? {}) as Record<string, string>))]
  } else {
    const usual = ['model.safetensors', 'diffusion_pytorch_model.safetensors']
    const one = usual.find((name) => safe.includes(name))
    if (one !== undefined) chosen = [one]
  }
  return chosen.map((path) => ({ path, prefix }))
}

/** A diffusers pipeline is its components: their folders, their tensors under their names. */
async function pipelineFiles(folder: string): Promise<WeightFile[]> {
  const files: WeightFile[] = []
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    if (!entry.isDirectory() || !/^(?:unet|transformer|text_encoder)(?:_\d)?$/.test(entry.name))
      continue
    for (const { path } of await weightFiles(join(folder, entry.name), `${entry.name}.`))
      files.push({ path: `${entry.name}/${path}`, prefix: `${entry.name}.` })
  }
  return files
}

/**
 * What a Hugging Face or diffusers folder is: every weight file is hashed, of their tensors only headers are read.
 * @throws ERR_CHECKPOINT_INVALID naming what is absent
 */
export async function describeFolder(folder: string, output: Output): Promise<LocalBase> {
  const pipeline = await readIfThere(join(folder, 'model_index.json'))
  const configPath = join(folder, pipeline ? 'model_index.json' : 'config.json')
  const configJson = pipeline ?? (await readIfThere(configPath))
  if (!configJson)
    throw new GraftError(
      'ERR_CHECKPOINT_INVALID',
      `${folder} has no config.json: give the folder of the base model (config.json and .safetensors), its name or its digest`,
    )
  const found = pipeline ? await pipelineFiles(folder) : await weightFiles(folder, '')
  if (found.length === 0)
    throw new GraftError(
      'ERR_CHECKPOINT_INVALID',
      `${folder} has no .safetensors file: save the base again with safe_serialization=True`,
    )
  const sizes = await Promise.all(found.map(({ path }) => sizeOf(join(folder, path))))
  const total = sizes.reduce((sum, size) => sum + size, 0)
  const bar = createBar(output, 'hash base')
  let done = 0
  const files = []
  for (const [i, { path, prefix }] of found.entries()) {
    const file = join(folder, path)
    await using input = await openInput(file)
    const { header } = await openSafetensors(input.files.get(basename(file))!)
    const sha256 = await hashFile(file, (count) => bar((done += count), total))
    files.push({ path, size: sizes[i]!, sha256, header, ...(prefix === '' ? {} : { prefix }) })
  }
  const described = await describeBase({
    name: basename(resolve(folder)),
    configJson,
    tokenizerJson: await readIfThere(join(folder, 'tokenizer.json')),
    files,
  })
  return { ...described, config: parse(configJson, configPath) }
}

const sizeOf = (path: string): Promise<number> =>
  stat(path).then(
    ({ size }) => size,
    (cause) => {
      throw new GraftError(
        'ERR_CHECKPOINT_INVALID',
        `${path} is named by the index and absent; restore it`,
        { cause },
      )
    },
  )

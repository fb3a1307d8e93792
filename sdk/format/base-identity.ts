import { canonicalBytes } from './canonical-json.ts'
import { type Digest, sha256 } from './digest.ts'
import { expected, GraftError } from './errors.ts'
import type { BaseIdentity } from './manifest.ts'
import { parseSafetensorsHeader } from './safetensors.ts'
import { type Json, parseStrictJson } from './strict-json.ts'

export interface BaseTensor {
  name: string
  dtype: string
  shape: number[]
}

/** Same shape as the protocol's BaseRecord. */
export interface BaseDescription {
  /** sha256 of the canonical JSON of `identity`. */
  digest: Digest
  identity: BaseIdentity
  /** By name. */
  tensors: BaseTensor[]
}

export interface BaseFiles {
  name: string
  configJson: Uint8Array
  tokenizerJson: Uint8Array | null
  /**
   * Each safetensors file: its digest and its first 8 + N bytes (or all of it). `prefix` goes before its tensors' names:
   * the component of a diffusers pipeline.
   */
  files: { path: string; size: number; sha256: Digest; header: Uint8Array; prefix?: string }[]
}

const invalid = (message: string): GraftError => new GraftError('ERR_CHECKPOINT_INVALID', message)

const byText = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)

/** sha256 of the canonical JSON: the digest that names a base everywhere. */
export const baseDigest = (identity: BaseIdentity): Promise<Digest> =>
  sha256(canonicalBytes(identity))

/** Sorted lines "name\tshape\n", or "name\tdtype\tshape\n"; a shape is its numbers joined by ",". */
export const structureDigest = (tensors: readonly BaseTensor[], dtypes: boolean): Promise<Digest> =>
  sha256(
    tensors
      .map((t) => `${t.name}\t${dtypes ? `${t.dtype}\t` : ''}${t.shape.join(',')}\n`)
      .sort(byText)
      .join(''),
  )

function parseQuantization(config: { [key: string]: Json }): BaseIdentity['quantization'] {
  const q = config['quantization_config']
  if (q === undefined || q === null) return null
  if (typeof q !== 'object' || Array.isArray(q) || typeof q['quant_method'] !== 'string')
    throw invalid(expected('config.json: quantization_config', 'an object with quant_method', q))
  const bits = q['bits'] ?? (q['load_in_4bit'] ? 4 : q['load_in_8bit'] ? 8 : undefined)
  if (typeof bits !== 'number')
    throw invalid(expected('config.json: quantization_config', 'to name its bits', q))
  const group = q['group_size']
  return { method: q['quant_method'], bits, group: typeof group === 'number' ? group : 0 }
}

/**
 * What a base is, from its files: no tensor data is read, headers are enough.
 * @throws ERR_CHECKPOINT_INVALID, ERR_SAFETENSORS_INVALID
 */
export async function describeBase(base: BaseFiles): Promise<BaseDescription> {
  const config = parseStrictJson(base.configJson, 'config.json', 'ERR_CHECKPOINT_INVALID')
  if (typeof config !== 'object' || config === null || Array.isArray(config))
    throw invalid(expected('config.json', 'a JSON object', config))
  const { architectures, _class_name: className } = config
  // diffusers' configs name their class, and say no more of its type.
  const architecture = Array.isArray(architectures) ? architectures[0] : className
  const modelType = config['model_type'] ?? (className === undefined ? undefined : 'diffusers')
  if (typeof architecture !== 'string')
    throw invalid(expected('config.json: architectures', 'a list of class names', architectures))
  if (typeof modelType !== 'string')
    throw invalid(expected('config.json: model_type', 'a string', modelType))
  if (base.files.length === 0) throw invalid(`base ${base.name} has no safetensors file`)
  const tensors = new Map<string, BaseTensor>()
  for (const file of base.files)
    for (const entry of parseSafetensorsHeader(file.header, file.size).tensors) {
      const { dtype, shape } = entry
      const name = (file.prefix ?? '') + entry.name
      if (tensors.has(name))
        throw invalid(`tensor ${name} stands in two files of base ${base.name}`)
      tensors.set(name, { name, dtype, shape })
    }
  const sorted = [...tensors.values()].sort((a, b) => byText(a.name, b.name))
  const identity: BaseIdentity = {
    name: base.name,
    architecture,
    modelType,
    files: base.files
      .map(({ path, size, sha256: digest }) => ({ path, size, sha256: digest }))
      .sort((a, b) => byText(a.path, b.path)),
    structure: await structureDigest(sorted, false),
    structureWithDtype: await structureDigest(sorted, true),
    configDigest: await sha256(base.configJson),
    tokenizerDigest: base.tokenizerJson ? await sha256(base.tokenizerJson) : null,
    quantization: parseQuantization(config),
  }
  return { digest: await baseDigest(identity), identity, tensors: sorted }
}

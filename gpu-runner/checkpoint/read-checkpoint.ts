import { readFile } from 'node:fs/promises'
import { basename, join, resolve } from 'node:path'
import { type Dtype, toFloat32 } from '@graft/sdk/format/dtypes.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import { tensorBytes } from '@graft/sdk/format/safetensors.ts'
import { floatsOf } from '../engine/graph/quantise/nf4-weights.ts'
import { readBnbWeight } from './bnb-weights.ts'
import { type ModelConfig, parseModelConfig } from './model-config.ts'
import { openSafetensorsFile } from './safetensors-file.ts'

export interface Weight {
  dtype: string
  shape: number[]
  /** Little-endian, C order; read anew each time it is asked for. */
  readonly data: Uint8Array
  /** Bytes [begin, end) of the data. */
  bytes?(begin: number, end: number): Uint8Array
}

export interface Checkpoint {
  name: string
  config: ModelConfig
  weights: Map<string, Weight>
  /** A weight as f32. @throws ERR_CHECKPOINT_INVALID when it is absent or of another shape */
  f32(name: string, shape: number[]): Float32Array
  /** The same some rows at a time, so that a large weight is never in memory whole; absent: f32 is all there is. */
  bands?(name: string, shape: [number, number]): Iterable<Float32Array>
}

/** Rows of a weight [rows, columns], some at a time. */
export function bandsOf(
  checkpoint: Checkpoint,
  name: string,
  shape: [number, number],
): Iterable<Float32Array> {
  return checkpoint.bands?.(name, shape) ?? [checkpoint.f32(name, shape)]
}

/**
 * The checkpoint with another f32. Rows at a time come from it too: taken over from the checkpoint they would be the old
 * weights.
 */
export function withF32(checkpoint: Checkpoint, f32: Checkpoint['f32']): Checkpoint {
  const { bands: _, ...rest } = checkpoint
  return { ...rest, f32 }
}

/** Of one band, in f32. */
const BAND_BYTES = 8 * 2 ** 20

const damaged = (message: string, cause?: unknown): GraftError =>
  new GraftError('ERR_CHECKPOINT_INVALID', message, { cause })

const unreadable = (path: string, cause: NodeJS.ErrnoException): GraftError =>
  damaged(`${path} must be readable: ${cause.code ?? cause.message}`, cause)

export async function readBytes(path: string): Promise<Uint8Array> {
  return readFile(path).catch((cause: NodeJS.ErrnoException) => {
    throw unreadable(path, cause)
  })
}

function parseJson(bytes: Uint8Array, path: string): Record<string, unknown> {
  let value: unknown
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch (cause) {
    throw damaged(`${path} must be JSON: ${(cause as Error).message}`, cause)
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value))
    return value as Record<string, unknown>
  throw damaged(expected(path, 'a JSON object', value))
}

/** The weight files of a checkpoint folder, sorted: one model.safetensors, or the shards of its index. */
export async function weightFiles(folder: string): Promise<string[]> {
  const indexPath = join(folder, 'model.safetensors.index.json')
  const index = await readFile(indexPath).catch(() => null)
  if (!index) return ['model.safetensors']
  const map = parseJson(index, indexPath)['weight_map'] as Record<string, string> | undefined
  if (!map) throw damaged(expected(`${indexPath}: weight_map`, 'an object', map))
  const files = [...new Set(Object.values(map))].sort()
  for (const file of files)
    if (basename(file) !== file)
      throw damaged(expected(`${indexPath}: weight_map`, 'plain file names', file))
  return files
}

/** Opens a Hugging Face checkpoint folder; tensors are read when they are asked for. @throws ERR_CHECKPOINT_INVALID naming the file */
export async function readCheckpoint(folder: string): Promise<Checkpoint> {
  const configPath = join(folder, 'config.json')
  const config = parseModelConfig(parseJson(await readBytes(configPath), configPath), configPath)
  const weights = new Map<string, Weight>()
  for (const file of await weightFiles(folder)) {
    const path = join(folder, file)
    try {
      const { tensors, metadata } = await openSafetensorsFile(path)
      for (const [name, tensor] of tensors) weights.set(name, tensor)
      // transformers writes a tied tensor once and names its aliases in __metadata__.
      for (const [alias, name] of Object.entries(metadata)) {
        const tensor = tensors.get(name)
        if (tensor && !weights.has(alias)) weights.set(alias, tensor)
      }
    } catch (cause) {
      if (cause instanceof GraftError && cause.code === 'ERR_SAFETENSORS_INVALID')
        throw damaged(`${path} is damaged: ${cause.message}; restore the file`, cause)
      if (cause instanceof GraftError) throw cause
      throw unreadable(path, cause as NodeJS.ErrnoException)
    }
  }
  const embed = weights.get('model.embed_tokens.weight')
  const head = weights.get('lm_head.weight')
  // Tied: one stands for both, whichever was kept.
  if (config.tiedHead && embed && !head) weights.set('lm_head.weight', embed)
  if (config.tiedHead && head && !embed) weights.set('model.embed_tokens.weight', head)
  const f32 = (name: string, shape: number[]): Float32Array => {
    const weight = weights.get(name)
    if (!weight) throw damaged(`${folder}: the tensor ${name} is missing`)
    const quantized = readBnbWeight(weights, name)
    if ((quantized ?? weight).shape.join() !== shape.join())
      throw damaged(
        expected(`${folder}: shape of ${name}`, `[${shape}]`, (quantized ?? weight).shape),
      )
    return quantized ? floatsOf(quantized.nf4) : toFloat32(weight.dtype, weight.data)
  }
  return {
    name: basename(resolve(folder)),
    config,
    weights,
    f32,
    *bands(name, shape) {
      const weight = weights.get(name)
      const [rows, columns] = shape
      if (!weight?.bytes || weight.shape.join() !== shape.join() || readBnbWeight(weights, name)) {
        yield f32(name, shape)
        return
      }
      const row = tensorBytes(weight.dtype as Dtype, [columns], name)
      const band = Math.max(1, Math.floor(BAND_BYTES / (4 * columns)))
      for (let first = 0; first < rows; first += band) {
        const last = Math.min(rows, first + band)
        yield toFloat32(weight.dtype, weight.bytes(first * row, last * row))
      }
    },
  }
}

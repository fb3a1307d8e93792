import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import type { TensorSource } from '@graft/sdk/format/tensor-source.ts'
import { type Block, cutBlock } from '../blocks.ts'
import type { ConfigObject } from '../source-format.ts'

/** Heads whose rows llama.cpp stores in another order at a tensor; null where it keeps the checkpoint's. */
export function headsAt(tensor: string, config: ConfigObject | undefined): number | null {
  const [, name] = /^blk\.\d+\.(attn_q|attn_k)\.weight$/.exec(tensor) ?? []
  if (name === undefined) return null
  if (config === undefined)
    throw new GraftError(
      'ERR_REQUEST_INVALID',
      `llama.cpp stores the rows of ${tensor} in another order, which the base's head counts tell: give the base's config.json (--base-config, or --base with the base's own folder)`,
    )
  const heads = config['num_attention_heads']
  const count = name === 'attn_q' ? heads : (config['num_key_value_heads'] ?? heads)
  if (typeof count === 'number' && Number.isSafeInteger(count) && count > 0) return count
  throw new GraftError(
    'ERR_CHECKPOINT_INVALID',
    expected("the base's config.json", 'to tell num_attention_heads', count ?? null),
  )
}

/**
 * The rows of lora_b [out, rank] of q or k. In a head of D rows, row 2j + t of the file is row t * D / 2 + j of the
 * checkpoint, t 0 or 1: the inverse of the converter's LlamaModel.permute.
 * @throws ERR_TENSOR_SHAPE
 */
export function fileToCheckpoint(shape: readonly number[], heads: number, tensor: string): Block {
  const [rows = 0, rank = 0] = shape
  if (rows % (2 * heads) !== 0)
    throw new GraftError(
      'ERR_TENSOR_SHAPE',
      expected(`${tensor}: rows`, `an even number for each of ${heads} heads`, rows),
    )
  const view = [heads, rows / heads / 2, 2, rank]
  return { view, begin: [0, 0, 0, 0], end: view, axes: [0, 2, 1, 3] }
}

/** The way out: the same turn from the other side. */
export function checkpointToFile(b: TensorSource, heads: number, tensor: string): TensorSource {
  const [, half = 0, , rank = 0] = fileToCheckpoint(b.shape, heads, tensor).view
  const view = [heads, 2, half, rank]
  return cutBlock(b, { view, begin: [0, 0, 0, 0], end: view, axes: [0, 2, 1, 3] }, b.shape)
}

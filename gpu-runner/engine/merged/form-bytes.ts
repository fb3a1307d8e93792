import type { BaseTensor } from '@graft/sdk/format/base-identity.ts'
import type { EngineInfo } from '../engine.ts'
import { type Form, PRECISIONS, type Precision } from '../graph/precisions.ts'

/** Memory of an engine per byte of its weights file: what onnxruntime packs anew, the mapping, the thread's own heap. */
const ENGINE_FACTOR = 2.2
/** Of one key or value; an int8 row of at least 16 has one f32 scale. */
const KV_BYTES = { fp32: 4, fp16: 2, int8: 1.25 } as const

/**
 * The most memory that a second base takes: its weights at the serving precision as an engine holds them, keys and values
 * of its slots and stored prompt blocks, up to their budgets. What the budget of merged forms counts with.
 */
export function formBytes(
  tensors: readonly BaseTensor[],
  precision: Precision,
  info: Pick<EngineInfo, 'slots' | 'maxPositions' | 'kvPrecision'>,
  budgets: { kvBudgetBytes: number; prefixBudgetBytes: number },
): number {
  const facts = PRECISIONS[precision]
  const linear = facts.bits / 8 + (facts.block > 1 ? 4 / facts.block : 0)
  let weights = 0
  let position = 0
  let embeddings = 0
  let tied = true
  for (const { name, shape } of tensors) {
    const values = shape.reduce((a, b) => a * b, 1)
    if (name === 'model.embed_tokens.weight') {
      embeddings = values
      weights += values * bytesOf(facts.embedding)
    } else if (name === 'lm_head.weight') {
      tied = false
      weights += values * bytesOf(facts.head)
    } else weights += values * (shape.length === 2 ? linear : 4)
    // v_proj gives as many values per position as k_proj.
    if (name.endsWith('.k_proj.weight')) position += 2 * shape[0]! * KV_BYTES[info.kvPrecision]
  }
  // A tied head is a matrix of its own in the graph.
  if (tied) weights += embeddings * bytesOf(facts.head)
  const cache = Math.min(budgets.kvBudgetBytes, info.slots * info.maxPositions * position)
  return Math.ceil(weights * ENGINE_FACTOR + cache + budgets.prefixBudgetBytes)
}

function bytesOf(form: Form): number {
  if (form.name === 'channels') return 1
  return form.name === 'blocks' ? form.bits / 8 + 4 / form.block : 4
}

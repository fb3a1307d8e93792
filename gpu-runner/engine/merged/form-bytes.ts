import type { BaseTensor } from '@graft/sdk/format/base-identity.ts'
import { PRECISIONS, type Precision } from '../graph/precisions.ts'

/** Memory of a session per byte of its weights: onnxruntime packs matrices anew and holds both for a while. */
const SESSION_FACTOR = 2.2
/** Positions of keys and values that every slot is counted with. */
const POSITIONS = 256

/**
 * Memory that a second base takes: its weights at the serving precision as a session holds them, and keys and values of
 * its slots. What the budget of merged forms counts with.
 */
export function formBytes(
  tensors: readonly BaseTensor[],
  { precision, slots }: { precision: Precision; slots: number },
): number {
  const { bits, block } = PRECISIONS[precision]
  const matrixBytes = (values: number): number =>
    (values * bits) / 8 + (block > 1 ? (values / block) * 4 : 0)
  let weights = 0
  let cache = 0
  let embeddings = 0
  let head = false
  for (const { name, shape } of tensors) {
    const values = shape.reduce((a, b) => a * b, 1)
    if (name === 'model.embed_tokens.weight') embeddings = values
    head ||= name === 'lm_head.weight'
    weights +=
      shape.length === 2 && name !== 'model.embed_tokens.weight' ? matrixBytes(values) : values * 4
    // k_proj gives as many values per position as v_proj.
    if (name.endsWith('.k_proj.weight')) cache += 2 * shape[0]! * slots * POSITIONS * 4
  }
  // A tied head is a matrix of its own in the graph.
  if (!head) weights += matrixBytes(embeddings)
  return Math.ceil(weights * SESSION_FACTOR + cache)
}

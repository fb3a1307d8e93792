import { denseIsZero } from './dense/zero.ts'
import type { LowRank, Operation } from './operations.ts'

/** Values of a tensor as f32. */
export type Values = (tensor: string) => Promise<Float32Array>

const isZero = (values: Float32Array): boolean => values.every((value) => value === 0)

/**
 * Some rank has a row of A, a column of B and a factor that are all not zero, and some row of the result is kept.
 * A [stacks, rank, width], B [stacks, out, rank].
 */
async function productIsZero(op: LowRank, values: Values): Promise<boolean> {
  const { rank, slots } = op
  const stacks = op.experts ?? 1
  const e = slots.E === undefined ? null : await values(slots.E)
  const d = slots.D === undefined ? null : await values(slots.D)
  const [a, b] = [await values(slots.A), await values(slots.B)]
  const [width, out] = [a.length / (stacks * rank), b.length / (stacks * rank)]
  for (let s = 0; s < stacks; s++)
    for (let r = 0; r < rank; r++) {
      if (e?.[r] === 0) continue
      const row = (s * rank + r) * width
      if (isZero(a.subarray(row, row + width))) continue
      for (let o = 0; o < out; o++)
        if (b[(s * out + o) * rank + r] !== 0 && d?.[o] !== 0) return false
    }
  return true
}

/** True only where the operation provably changes nothing, whatever the base's weights are. */
export async function hasNoEffect(op: Operation, values: Values): Promise<boolean> {
  const zero = async (tensor: string | undefined): Promise<boolean> =>
    tensor === undefined || isZero(await values(tensor))
  switch (op.op) {
    case 'low_rank':
      if (Number(op.scale) === 0) return true
      return (await zero(op.slots.Bbias)) && (await productIsZero(op, values))
    case 'scale':
      return (await values(op.slots.l)).every((value) => value === 1)
    case 'dense':
      return denseIsZero(op, values)
    case 'bottleneck':
      if (op.slots.lnAfterW !== undefined) return false
      if (op.slots.scaling !== undefined && (await zero(op.slots.scaling))) return true
      if (Number(op.scaling) === 0) return true
      return (await zero(op.slots.upW)) && (await zero(op.slots.upB))
    // m may differ from W's row norms; virtual tokens take attention even when zero; replaced values may differ.
    case 'magnitude':
    case 'prefix':
    case 'prompt':
    case 'replace':
      return false
  }
}

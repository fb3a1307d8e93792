import { denseShapes } from './dense/shapes.ts'
import type { Operation } from './operations.ts'

export interface Slot {
  /** Key in the operation's `slots`. */
  slot: string
  tensor: string
  /** What the operation's own numbers say the tensor must be. */
  shape: number[]
}

/** Shape per slot of an operation, for slots that may be absent too. */
function shapesOf(op: Operation): Record<string, number[]> {
  switch (op.op) {
    case 'low_rank': {
      const experts = op.experts === undefined ? [] : [op.experts]
      const kernel = op.kernel ?? []
      return {
        A: [...experts, op.rank, op.in, ...kernel],
        B: [...experts, op.out, op.rank, ...kernel.map(() => 1)],
        Bbias: [op.out],
        E: [op.rank],
        D: [op.out],
      }
    }
    case 'magnitude':
      return { A: [op.rank, op.in], B: [op.out, op.rank], m: [op.out] }
    case 'scale':
      return { l: [op.size] }
    case 'bottleneck':
      return {
        downW: [op.reduced, op.hidden],
        downB: [op.reduced],
        upW: [op.hidden, op.reduced],
        upB: [op.hidden],
        lnBeforeW: [op.hidden],
        lnBeforeB: [op.hidden],
        lnAfterW: [op.hidden],
        lnAfterB: [op.hidden],
        gateW: [1, op.hidden],
        gateB: [1],
        scaling: [op.scaling === 'channel' ? op.hidden : 1],
      }
    case 'prefix':
      return {
        k: [op.kvHeads, op.virtualTokens, op.headDim],
        v: [op.kvHeads, op.virtualTokens, op.headDim],
      }
    case 'prompt':
      return { E: [op.virtualTokens, op.hidden] }
    case 'replace':
      return { value: op.shape }
    case 'dense':
      return denseShapes(op)
  }
}

/** The slots that an operation fills, in the order of their names, each with the shape its tensor must have. */
export function slotsOf(op: Operation): Slot[] {
  const shapes = shapesOf(op)
  return Object.entries(op.slots as Record<string, string | undefined>)
    .filter((entry): entry is [string, string] => entry[1] !== undefined)
    .map(([slot, tensor]) => ({ slot, tensor, shape: shapes[slot] ?? [] }))
}

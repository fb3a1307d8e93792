import {
  type Dense,
  type LowRank,
  OPERATIONS,
  type Operation,
  type OperationKind,
} from '../operations.ts'
import { denseFactors, type SlotValues } from './rows.ts'

/** Ranks up to which exact factors are worth their product: a batch reads them for every row of it. */
export const MAX_EXACT_RANK = 128

/** Rank of dW's exact factors: all pairs of LoHa's ranks, the product of the ranks of LoKr's sides. Null: none are known. */
export function exactRank(op: Dense): number | null {
  if (op.form === 'hadamard') return op.rank ** 2
  if (op.form === 'kronecker')
    return (op.rank1 ?? Math.min(...op.shape1)) * (op.rank2 ?? Math.min(...op.shape2))
  return null
}

/** Whether a runtime runs dW as factors: they are exact, of rank at most 128 and at most half of what a full matrix has. */
export function runsAsLowRank(op: Dense): boolean {
  const rank = exactRank(op)
  return rank !== null && rank <= MAX_EXACT_RANK && 2 * rank <= Math.min(op.in, op.out)
}

/** The kind that a runtime must have for an operation. */
export const kindToRun = (op: Operation): OperationKind =>
  op.op === 'dense' && runsAsLowRank(op) ? 'low_rank' : op.op

/** Whether an operation adds up with others as a delta, as it is run. */
export const isDelta = (op: Operation): boolean => OPERATIONS[kindToRun(op)].composable

/** Names for the factors, which are no tensors of the file: of a file that has such a name the adapter loses that tensor. */
const factorNames = (site: string) => ({ A: `${site}::exact::A`, B: `${site}::exact::B` })

/**
 * A dense operation as the `low_rank` of its exact factors, each element rounded once to f32.
 * @returns the operation, and its tensors by name
 */
export function asLowRank(
  op: Dense,
  values: SlotValues,
): { operation: LowRank; tensors: Map<string, { shape: number[]; data: Float32Array }> } {
  const factors = denseFactors(op, values)
  if (factors === null || !('scale' in op))
    throw new TypeError(`${op.form} at ${op.site} has no factors`)
  const { rank, a, b } = factors
  const slots = factorNames(op.site)
  return {
    operation: {
      ...{ op: 'low_rank', site: op.site, in: op.in, out: op.out },
      ...{ rank, scale: op.scale, slots },
    },
    tensors: new Map([
      [slots.A, { shape: [rank, op.in], data: a }],
      [slots.B, { shape: [op.out, rank], data: b }],
    ]),
  }
}

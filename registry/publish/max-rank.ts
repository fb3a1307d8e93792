import { exactRank, runsAsLowRank } from '@graft/sdk/format/dense/as-low-rank.ts'
import type { Operation } from '@graft/sdk/format/operations.ts'

/** The rank that a runtime holds for an operation, 0 where it holds no factors. */
function rankOf(op: Operation): number {
  if (op.op === 'low_rank' || op.op === 'magnitude') return op.rank
  return op.op === 'dense' && runsAsLowRank(op) ? (exactRank(op) ?? 0) : 0
}

/** The largest rank that a runtime must take to run them all. */
export const maxRank = (operations: readonly Operation[]): number =>
  operations.reduce((most, op) => Math.max(most, rankOf(op)), 0)

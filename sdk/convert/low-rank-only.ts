import { GraftError } from '@graft/sdk/format/errors.ts'
import type { LowRank, Operation } from '@graft/sdk/format/operations.ts'
import { wayOut } from './way-out.ts'

/** Why an operation is no plain update A, B of one linear layer; null when it is. */
function obstacle(op: Operation): string | null {
  if (op.op === 'magnitude') return 'DoRA (magnitude)'
  if (op.op !== 'low_rank') return op.op
  if (op.slots.Bbias !== undefined) return 'a bias of the update (lora_bias)'
  if (op.experts !== undefined) return 'experts'
  if (op.kernel !== undefined) return 'a convolution'
  return null
}

/**
 * The updates of an adapter, for targets that hold nothing else.
 * @throws ERR_METHOD_UNSUPPORTED naming the first that the target cannot hold, and how many there are
 */
export function lowRankOnly(operations: readonly Operation[], target: string): LowRank[] {
  const found = operations.flatMap((op) => {
    const what = obstacle(op)
    return what === null ? [] : [{ what, op }]
  })
  const [first] = found
  if (first !== undefined)
    throw new GraftError(
      'ERR_METHOD_UNSUPPORTED',
      `${target} cannot hold ${first.what} at ${first.op.site}${found.length > 1 ? ` and ${found.length - 1} more` : ''}; it holds plain low rank updates only. ${wayOut(first.op)}`,
    )
  const updates = operations as readonly LowRank[]
  const twice = updates.find(({ site }, i) => updates.findIndex((op) => op.site === site) < i)
  if (twice !== undefined)
    throw new GraftError(
      'ERR_METHOD_UNSUPPORTED',
      `${target} holds one update a module, and ${twice.site} has two`,
    )
  return [...updates]
}

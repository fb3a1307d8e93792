import { GraftError } from '@graft/sdk/format/errors.ts'
import type { Operation } from '@graft/sdk/format/operations.ts'

/** What to do with an operation that a target has no place for: PEFT holds the most, but no bottlenecks. */
export const wayOut = ({ op }: Pick<Operation, 'op'>): string =>
  `Convert --to ${op === 'bottleneck' ? 'adapters' : 'peft'}, or merge the adapter into the base`

/** @throws ERR_METHOD_UNSUPPORTED: what a target has no place for, and the way out */
export function unfit(op: Operation, why: string): never {
  throw new GraftError('ERR_METHOD_UNSUPPORTED', `${op.op} at ${op.site}: ${why}. ${wayOut(op)}`)
}

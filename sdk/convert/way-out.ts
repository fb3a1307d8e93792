import type { Operation } from '@graft/sdk/format/operations.ts'

/** What to do with an operation that a target has no place for: PEFT holds the most, but no bottlenecks. */
export const wayOut = ({ op }: Pick<Operation, 'op'>): string =>
  `Convert --to ${op === 'bottleneck' ? 'adapters' : 'peft'}, or merge the adapter into the base`

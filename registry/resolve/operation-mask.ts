import type { OperationKind } from '@graft/sdk/format/operations.ts'

/** Bits of versions.operation_mask. A stored bit never changes its meaning (0003-version-states.sql). */
const BITS: Record<OperationKind, number> = {
  low_rank: 1,
  magnitude: 2,
  scale: 4,
  bottleneck: 8,
  prefix: 16,
  prompt: 32,
  replace: 64,
  dense: 128,
}

export const operationMask = (kinds: Iterable<OperationKind>): number =>
  [...kinds].reduce((mask, kind) => mask | BITS[kind], 0)

/** Every bit, also those of kinds yet to come, but for these kinds: what a runtime cannot do. */
export const maskWithout = (kinds: readonly OperationKind[]): number =>
  0x7fffffff & ~operationMask(kinds)

import { createGuards } from '../guards.ts'
import type { Dense } from '../operations.ts'

const { fail } = createGuards('ERR_MANIFEST_INVALID')

/** f32 holds all integers up to here: a runtime may hold indices as it holds weights. */
const MAX_INDEXED = 2 ** 24
/** Deeper than any layer's inputs divide. */
const MAX_FACTORS = 24
/** Far above the 5 that PEFT sums: each is a product of matrices, and a manifest holds a million of them. */
const MAX_SERIES = 64

/** What the fields of a form must be together. @throws ERR_MANIFEST_INVALID */
export function checkDenseSizes(op: Dense, where: string): void {
  switch (op.form) {
    case 'matrix':
    case 'hadamard':
      return
    case 'kronecker': {
      const sizes = [0, 1].map((axis) => op.shape1[axis]! * op.shape2[axis]!)
      if (sizes[0] !== op.out || sizes[1] !== op.in)
        fail(`${where}.shape2`, `such that shape1 times it is ${op.out},${op.in}`, op.shape2)
      checkSide(op.rank1, 'w1', op.slots, where)
      checkSide(op.rank2, 'w2', op.slots, where)
      return
    }
    case 'rotation':
      checkBlocks(op.in, op.blockSize, where)
      if (op.series !== undefined && op.series.length > MAX_SERIES)
        fail(`${where}.series`, `at most ${MAX_SERIES} coefficients`, op.series.length)
      if (op.maxNorm?.startsWith('-')) fail(`${where}.maxNorm`, 'at least 0', op.maxNorm)
      return
    case 'butterfly': {
      checkBlocks(op.in, op.blockSize, where)
      if (op.factors > MAX_FACTORS) fail(`${where}.factors`, `at most ${MAX_FACTORS}`, op.factors)
      const stretch = op.blockSize * 2 ** (op.factors - 1)
      if (op.in % stretch !== 0 || (op.factors > 1 && op.blockSize % 2 !== 0))
        fail(`${where}.factors`, `levels of even blocks that divide ${op.in} inputs`, op.factors)
      return
    }
    case 'spectrum':
      if (op.frequencies > op.in * op.out || Math.max(op.in, op.out) > MAX_INDEXED)
        fail(`${where}.frequencies`, `at most one per element of dW`, op.frequencies)
  }
}

function checkBlocks(inner: number, blockSize: number, where: string): void {
  if (blockSize < 2 || inner % blockSize !== 0)
    fail(`${where}.blockSize`, `a divisor of ${inner}, at least 2`, blockSize)
}

/** A side is whole, or of a rank and two factors. */
function checkSide(
  rank: number | undefined,
  side: 'w1' | 'w2',
  slots: { readonly [slot: string]: string | undefined },
  where: string,
): void {
  const want = rank === undefined ? [side] : [`${side}a`, `${side}b`]
  for (const slot of [side, `${side}a`, `${side}b`])
    if (want.includes(slot) !== (slots[slot] !== undefined))
      fail(
        `${where}.slots.${slot}`,
        want.includes(slot) ? 'present' : 'absent',
        slots[slot] ?? null,
      )
}

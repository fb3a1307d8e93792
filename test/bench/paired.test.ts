import { expect, test } from 'vitest'
import { mcnemar, pairedDifference, pairedShare } from './paired.ts'

// 2 * sum of C(n, k) / 2^n for k up to the smaller count, in exact integers.
test('McNemar’s exact p is that of a fair coin', () => {
  expect(mcnemar(3, 10)).toBeCloseTo(0.0922851562, 9)
  expect(mcnemar(15, 10)).toBeCloseTo(0.4243562222, 9)
  expect(mcnemar(0, 0)).toBe(1)
  expect(mcnemar(2_000, 100)).toBeLessThan(1e-300)
})

test('shares of the same cases are compared case by case', () => {
  const before = [true, true, true, false, ...Array(96).fill(true)]
  const after = [false, false, true, true, ...Array(96).fill(true)]
  const share = pairedShare(before, after)
  expect(share).toMatchObject({ unmerged: 0.99, merged: 0.98, lost: 2, won: 1 })
  expect(share.difference).toBeCloseTo(-0.01, 12)
  expect(share.interval_95[0]).toBeCloseTo(-0.04819, 4)
  expect(share.interval_95[1]).toBeCloseTo(0.02858, 4)
  const same = pairedShare(before, before)
  expect(same.difference).toBe(0)
  expect(same.interval_95[1]).toBeGreaterThan(0)
})

test('a mean difference comes with its interval', () => {
  const { difference, interval_95 } = pairedDifference([1, 2, 3, 4], [2, 2, 4, 6])
  expect(difference).toBe(1)
  expect(interval_95[0]).toBeCloseTo(1 - 1.959964 * Math.sqrt(2 / 3 / 4), 9)
})

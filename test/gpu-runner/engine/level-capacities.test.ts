import { type Leveled, levelCapacities } from '@graft/runner/engine/onnx/level-capacities.ts'
import type { RunCost } from '@graft/runner/engine/onnx/run-cost.ts'
import fc from 'fast-check'
import { expect, test } from 'vitest'

const COST: RunCost = { run: 4000, token: 500, past: 0.5 }
const SIZES = [64, 128, 192, 256, 1024, 4096]

const costOf = (capacities: number[]): number =>
  new Set(capacities).size * COST.run +
  capacities.reduce((sum, capacity) => sum + COST.token + capacity * COST.past, 0)

/** The least cost over every choice of a capacity of the same or a larger row for each row. */
function cheapest(needs: number[]): number {
  const sizes = [...new Set(needs)]
  const choose = (chosen: number[]): number =>
    chosen.length === needs.length
      ? costOf(chosen)
      : Math.min(
          ...sizes
            .filter((size) => size >= needs[chosen.length]!)
            .map((size) => choose([...chosen, size])),
        )
  return choose([])
}

const row = fc.constantFrom(...SIZES).map((needs): Leveled => ({ needs, capacity: needs }))

test('rows end at the cheapest capacities, or stay where moving saves less than a tenth', () => {
  fc.assert(
    fc.property(fc.array(row, { minLength: 1, maxLength: 5 }), (rows) => {
      const chosen = levelCapacities(rows, COST)
      for (const [i, { needs }] of rows.entries()) expect(chosen[i]).toBeGreaterThanOrEqual(needs)
      const least = cheapest(rows.map(({ needs }) => needs))
      expect(costOf(chosen)).toBeLessThanOrEqual(least / 0.9 + 1e-9)
    }),
  )
})

test('one long row and few short ones run together, many short ones run apart from it', () => {
  const at = (needs: number): Leveled => ({ needs, capacity: needs })
  expect(levelCapacities([at(64), at(64), at(1024)], COST)).toEqual([1024, 1024, 1024])
  const many = Array.from({ length: 15 }, () => at(64))
  expect(levelCapacities([...many, at(1024)], COST)).toEqual([...many.map(() => 64), 1024])
})

test('rows go back to a smaller capacity once the long row is gone', () => {
  const rows = Array.from({ length: 8 }, (): Leveled => ({ needs: 64, capacity: 4096 }))
  expect(levelCapacities(rows, COST)).toEqual(rows.map(() => 64))
})

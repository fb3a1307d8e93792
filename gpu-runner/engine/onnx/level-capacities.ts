import type { RunCost } from './run-cost.ts'

/** A row that decodes. */
export interface Leveled {
  /** Smallest capacity that holds it. */
  needs: number
  /** Where it sits. */
  capacity: number
}

/** A move copies a whole past: it must save this share of a step. */
const WORTH_MOVING = 0.1

/**
 * Rows of different capacities take a run each. Moving short rows up to a longer one's capacity saves runs and makes
 * their past views longer; this finds the cheapest arrangement.
 * @returns the capacity for each row; the present ones unless others are clearly cheaper
 */
export function levelCapacities(rows: readonly Leveled[], cost: RunCost): number[] {
  const present = rows.map(({ capacity }) => capacity)
  const levels = [...new Set(rows.map(({ needs }) => needs))].sort((a, b) => a - b)
  const best = cheapestLevels(
    levels.map((size) => ({ size, rows: rows.filter(({ needs }) => needs === size).length })),
    cost,
  )
  const wanted = rows.map(({ needs }) => best.get(needs)!)
  return costOf(wanted, cost) < (1 - WORTH_MOVING) * costOf(present, cost) ? wanted : present
}

const costOf = (capacities: number[], cost: RunCost): number =>
  new Set(capacities).size * cost.run +
  capacities.reduce((sum, capacity) => sum + cost.token + capacity * cost.past, 0)

/** Splits ascending levels into ranges that each sit at their largest; by dynamic programming over where a range ends. */
function cheapestLevels(
  levels: { size: number; rows: number }[],
  cost: RunCost,
): Map<number, number> {
  const least = [0]
  const from: number[] = []
  for (const [end, { size }] of levels.entries()) {
    let rows = 0
    least[end + 1] = Number.POSITIVE_INFINITY
    for (let begin = end; begin >= 0; begin--) {
      rows += levels[begin]!.rows
      const total = least[begin]! + cost.run + rows * size * cost.past
      if (total >= least[end + 1]!) continue
      least[end + 1] = total
      from[end] = begin
    }
  }
  const chosen = new Map<number, number>()
  for (let end = levels.length - 1; end >= 0; end = from[end]! - 1)
    for (let i = from[end]!; i <= end; i++) chosen.set(levels[i]!.size, levels[end]!.size)
  return chosen
}

import type { StepRow } from '../engine.ts'
import type { RunCost } from './run-cost.ts'
import type { Sequence } from './sequence.ts'

export interface RunRow {
  sequence: Sequence
  row: StepRow
  /** Tokens of the row that came with earlier ones and wait for no logits. */
  held: number
}

export interface Run {
  /** null where a seat only fills the view. */
  rows: (RunRow | null)[]
  /** New positions per row, virtual ones included. */
  tokens: number
  /** The view of the past: the seats of one capacity from `seat` on; null: no row has a past, or views are not used. */
  past: { capacity: number; seat: number } | null
}

/** Where a row's past is held. */
export interface Place {
  capacity: number
  seat: number
}

export const tokensOf = ({ sequence, row }: RunRow): number =>
  row.tokenIds.length + (sequence.pendingPrompt?.tokens ?? 0)

const hasPast = ({ sequence }: RunRow): boolean => sequence.length > 0

/** Rows of as many tokens run together, whatever slots they have. */
export function planTogether(rows: RunRow[]): Run[] {
  const byTokens = Map.groupBy(rows, tokensOf)
  return [...byTokens].map(([tokens, alike]): Run => ({ rows: alike, tokens, past: null }))
}

/**
 * Rows of as many tokens run together where none has a past, or where they sit beside each other. Seats between two of
 * them are computed and dropped while that costs less than another run.
 */
export function planRuns(rows: RunRow[], placeOf: (row: RunRow) => Place, cost: RunCost): Run[] {
  const runs = planTogether(rows.filter((row) => !hasPast(row)))
  const byTokens = Map.groupBy(rows.filter(hasPast), tokensOf)
  for (const [tokens, alike] of byTokens)
    for (const [capacity, neighbours] of Map.groupBy(alike, (row) => placeOf(row).capacity)) {
      const gap = cost.run / (tokens * (cost.token + capacity * cost.past))
      runs.push(...splitAtGaps(neighbours, placeOf, tokens, gap))
    }
  return runs
}

/** @param most seats between two rows that one run may still hold */
function splitAtGaps(
  rows: RunRow[],
  placeOf: (row: RunRow) => Place,
  tokens: number,
  most: number,
): Run[] {
  const runs: Run[] = []
  let open: Run | null = null
  let next = 0
  for (const row of rows.toSorted((a, b) => placeOf(a).seat - placeOf(b).seat)) {
    const place = placeOf(row)
    if (!open || place.seat - next > most) {
      open = { rows: [], tokens, past: place }
      runs.push(open)
    } else for (; next < place.seat; next++) open.rows.push(null)
    open.rows.push(row)
    next = place.seat + 1
  }
  return runs
}

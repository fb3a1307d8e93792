import type { StepRow } from '../engine.ts'
import type { Sequence } from './sequence.ts'

/** A row of a run: null where a slot only fills the view. */
export interface RunRow {
  sequence: Sequence
  row: StepRow
  /** Tokens of the row that came with earlier ones and wait for no logits. */
  held: number
}

export interface Run {
  firstSlot: number
  /** By slot from firstSlot on. */
  rows: (RunRow | null)[]
  /** New positions per row, virtual ones included. */
  tokens: number
}

/** Slots between two rows that are cheaper to compute and drop than to start another run for. */
const GAP = 2

export const tokensOf = ({ sequence, row }: RunRow): number =>
  row.tokenIds.length + (sequence.pendingPrompt?.tokens ?? 0)

/**
 * Decode rows run together, every longer row runs on its own.
 * @param batches whether one run's rows must be neighbouring slots, whose past is then one view
 */
export function planRuns(rows: RunRow[], batches: 'neighbours' | 'any'): Run[] {
  const sorted = rows.toSorted((a, b) => a.sequence.slot - b.sequence.slot)
  const runs: Run[] = sorted
    .filter((row) => tokensOf(row) > 1)
    .map((row) => ({ firstSlot: row.sequence.slot, rows: [row], tokens: tokensOf(row) }))
  let open: Run | null = null
  const decode = sorted.filter((candidate) => tokensOf(candidate) === 1)
  if (batches === 'any') {
    if (decode[0]) runs.push({ firstSlot: decode[0].sequence.slot, rows: decode, tokens: 1 })
    return runs
  }
  for (const row of decode) {
    const { slot } = row.sequence
    const next: number = open ? open.firstSlot + open.rows.length : 0
    if (!open || slot - next > GAP) {
      open = { firstSlot: slot, rows: [], tokens: 1 }
      runs.push(open)
    } else for (let gap = next; gap < slot; gap++) open.rows.push(null)
    open.rows.push(row)
  }
  return runs
}

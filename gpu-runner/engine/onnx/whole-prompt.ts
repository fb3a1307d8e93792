import type { RowResult, StepRow } from '../engine.ts'
import type { RunRow } from './plan-runs.ts'
import type { Sequence } from './sequence.ts'

/**
 * Holds a row back whose adapter needs its prompt in one run, until the row that wants logits comes.
 * @returns the row with all that was held back before it, null where it is held itself
 */
export function holdBack(sequence: Sequence, row: StepRow): RunRow | null {
  if (!sequence.binding.terms.some(({ adapter }) => adapter.wholePrompt))
    return { sequence, row, held: 0 }
  if (row.logits === 'none') {
    sequence.held.push(...row.tokenIds)
    return null
  }
  const held = sequence.held.splice(0)
  const tokenIds = [...held, ...row.tokenIds]
  return { sequence, row: { ...row, tokenIds }, held: held.length }
}

export const nothingYet = (sequence: number): RowResult => ({
  sequence,
  logits: new Float32Array(0),
  finite: true,
})

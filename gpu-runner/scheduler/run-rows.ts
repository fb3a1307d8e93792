import type { GraftError } from '@graft/sdk/format/errors.ts'
import type { Engine, RowResult, StepRow } from '../engine/engine.ts'
import { isRowRefusal } from '../engine/rules.ts'

export interface RanRows {
  rows: RowResult[]
  ms: number
  /** By sequence. */
  refused: Map<number, GraftError>
}

/** One step. Where the engine refuses a row, each goes alone, and only the refused one is out. */
export async function runRows(engine: Engine, rows: StepRow[]): Promise<RanRows> {
  const refused = new Map<number, GraftError>()
  try {
    return { ...(await engine.step(rows)), refused }
  } catch (refusal) {
    if (!isRowRefusal(refusal)) throw refusal
  }
  const ran: RanRows = { rows: [], ms: 0, refused }
  for (const row of rows) {
    try {
      const alone = await engine.step([row])
      ran.rows.push(...alone.rows)
      ran.ms += alone.ms
    } catch (refusal) {
      if (!isRowRefusal(refusal)) throw refusal
      refused.set(row.sequence, refusal)
    }
  }
  return ran
}

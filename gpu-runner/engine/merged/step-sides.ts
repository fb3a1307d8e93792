import { GraftError, isGraftError } from '@graft/sdk/format/errors.ts'
import type { Engine, RowResult, StepRow } from '../engine.ts'

/** The rows of one step that run on one engine. */
export interface Side {
  engine: Engine
  rows: StepRow[]
  /** The engine failed; not called for a row that was refused before anything ran. */
  onFailure(): void
}

/** What an engine refuses for one row's sake, before it computes anything. */
const isRefusal = (e: unknown): boolean =>
  isGraftError(e) && (e.code === 'ERR_PROMPT_TOO_LONG' || e.code === 'ERR_REQUEST_INVALID')

/**
 * One step over several engines, one after the other: each has all cores while it runs.
 * @throws what an engine throws; ERR_RUNNER_FAILED when one refuses after another has computed, since the rows of both
 * can no longer be stepped again
 */
export async function stepSides(
  sides: readonly Side[],
): Promise<{ rows: Map<number, RowResult>; ms: number }> {
  const rows = new Map<number, RowResult>()
  let ms = 0
  for (const side of sides) {
    try {
      const result = await side.engine.step(side.rows)
      ms += result.ms
      for (const row of result.rows) rows.set(row.sequence, row)
    } catch (e) {
      if (!isRefusal(e)) side.onFailure()
      else if (rows.size > 0)
        throw new GraftError('ERR_RUNNER_FAILED', `a step broke off half-way: ${e}`, { cause: e })
      throw e
    }
  }
  return { rows, ms }
}

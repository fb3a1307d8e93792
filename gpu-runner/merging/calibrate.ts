import type { Engine } from '../engine/engine.ts'
import type { RunCosts } from './step-costs.ts'

/** Rows of the wide run: enough to tell rows from runs, few enough for any runner's slots. */
const ROWS = 8
/** Tokens that the long rows read first. */
const PAST = 96
const ROUNDS = 7

/**
 * Times decode runs of the base alone before anybody is served: one row, several rows, several rows with a past.
 * Medians, since the machine does other things as well.
 */
export async function calibrate(engine: Engine): Promise<RunCosts> {
  const rows = Math.min(ROWS, engine.info.slots)
  const past = Math.min(PAST, Math.floor(engine.info.maxPositions / 2))
  const token = engine.info.vocab - 1
  const ids = Array.from({ length: rows }, (_, i) => i)
  const time = async (of: number[]): Promise<number> => {
    const begin = performance.now()
    await engine.step(of.map((sequence) => ({ sequence, tokenIds: [token], logits: 'last' })))
    return performance.now() - begin
  }
  const times = { one: [] as number[], wide: [] as number[], long: [] as number[] }
  try {
    for (const id of ids) await engine.open(id, [])
    // The first step builds the session.
    await time(ids)
    for (let round = 0; round < ROUNDS; round++) {
      times.one.push(await time(ids.slice(0, 1)))
      times.wide.push(await time(ids))
    }
    for (const sequence of ids)
      await engine.step([{ sequence, tokenIds: Array(past).fill(token), logits: 'none' }])
    for (let round = 0; round < ROUNDS; round++) times.long.push(await time(ids))
  } finally {
    for (const id of ids) await engine.close(id)
  }
  return solve(
    { one: median(times.one), wide: median(times.wide), long: median(times.long) },
    rows,
    past,
  )
}

/** The three unknowns of RunCosts; noise must not make one of them negative. */
function solve(
  ms: { one: number; wide: number; long: number },
  rows: number,
  past: number,
): RunCosts {
  const rowMs = rows > 1 ? Math.max(0, (ms.wide - ms.one) / (rows - 1)) : 0
  return {
    runMs: Math.max(0, ms.one - rowMs),
    rowMs,
    positionMs: Math.max(0, (ms.long - ms.wide) / (rows * past)),
  }
}

const median = (values: number[]): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!

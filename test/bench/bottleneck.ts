import { type Bench, NOTHING } from './bench.ts'
import { interleave, timed } from './interleave.ts'
import { randomBottleneck } from './random-adapters.ts'
import { randomBase } from './random-base.ts'
import { openRandomEngine } from './random-engine.ts'
import { openRows } from './rows.ts'
import { SHAPES } from './shapes.ts'
import { speedRatio, summary } from './statistics.ts'

const ROWS = 16
const PAST = 100
const REDUCTION = 16

/** Decode throughput with bottleneck adapters over the base alone: all rows under one adapter, each under its own. */
export const bottleneck: Bench = {
  about:
    'bottleneck adapters (Pfeiffer, reduction 16): one for all rows, 16 distinct, against the base',
  needs: NOTHING,
  async run({ quick, progress }) {
    const checkpoint = randomBase('random-135m', SHAPES['135m'])
    const { config } = checkpoint
    // Two runners: what one adapter costs must not pay for the fifteen others.
    await using few = await openRandomEngine(checkpoint, { slots: 2 * ROWS + 2 })
    await using many = await openRandomEngine(checkpoint, { slots: ROWS })
    const adapters = Array.from({ length: ROWS }, (_, i) =>
      randomBottleneck(i + 1, config, REDUCTION),
    )
    await few.load(adapters[0]!)
    for (const adapter of adapters) await many.load(adapter)
    const base = await openRows(few, 1, Array(ROWS).fill(null), PAST)
    const one = await openRows(few, 100, Array(ROWS).fill(adapters[0]), PAST)
    const sixteen = await openRows(many, 200, adapters, PAST)
    const baseRow = await openRows(few, 300, [null], PAST)
    const oneRow = await openRows(few, 400, [adapters[0]!], PAST)
    progress('adapters loaded, prompts read')
    const ms = await interleave(
      {
        base: () => timed(base.step),
        one: () => timed(one.step),
        sixteen: () => timed(sixteen.step),
        base_b1: () => timed(baseRow.step),
        one_b1: () => timed(oneRow.step),
      },
      { warmUp: 2, least: 7, most: 25, seconds: quick ? 12 : 90 },
    )
    progress(`${ms.base.length} steps of each arm`)
    const against = { one: speedRatio(ms.base, ms.one), sixteen: speedRatio(ms.base, ms.sixteen) }
    return {
      one: against.one.ratio,
      sixteen: against.sixteen.ratio,
      one_single_row: speedRatio(ms.base_b1, ms.one_b1).ratio,
      rows: ROWS,
      past: PAST,
      reduction: REDUCTION,
      placement: 'after the MLP of every layer',
      shape: '135m',
      base_precision: few.info.precision,
      bank_precision: few.info.bankPrecision,
      by_round: { one: against.one.by_round, sixteen: against.sixteen.by_round },
      step_ms: Object.fromEntries(
        Object.entries(ms).map(([arm, values]) => [arm, summary(values)]),
      ),
    }
  },
}

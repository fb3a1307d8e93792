import { type Bench, NOTHING } from './bench.ts'
import { interleave, timed } from './interleave.ts'
import { randomBottleneck, randomDora, randomIa3, randomLora } from './random-adapters.ts'
import { randomBase } from './random-base.ts'
import { openRandomEngine } from './random-engine.ts'
import { openRows } from './rows.ts'
import { SHAPES } from './shapes.ts'
import { speedRatio, summary } from './statistics.ts'

const ROWS = 16
const PAST = 100
/** Of each method in the runner that has adapters. */
const EACH = 4

/** What rows of the base alone pay for adapters that others have loaded. */
export const unused: Bench = {
  about: 'rows of the base alone in a runner full of adapters against a runner without any',
  needs: NOTHING,
  async run({ quick, progress }) {
    const checkpoint = randomBase('random-135m', SHAPES['135m'])
    const { config } = checkpoint
    // Each engine holds the rows of one batch at a time in its lowest slots, as a runner would.
    await using plain = await openRandomEngine(checkpoint, { slots: ROWS })
    await using full = await openRandomEngine(checkpoint, { slots: ROWS })
    const methods = [randomLora, randomDora, randomIa3, randomBottleneck]
    for (let i = 0; i < methods.length * EACH; i++)
      await full.load(methods[i % methods.length]!(i + 1, config))
    progress(`${methods.length * EACH} adapters of ${methods.length} methods loaded`)
    const figures: Record<string, Awaited<ReturnType<typeof batch>>> = {}
    const batch = async (rows: number, first: number) => {
      const alone = await openRows(plain, first, Array(rows).fill(null), PAST)
      const beside = await openRows(full, first, Array(rows).fill(null), PAST)
      const ms = await interleave(
        { without: () => timed(alone.step), with: () => timed(beside.step) },
        { warmUp: 2, least: 7, most: rows === 1 ? 80 : 30, seconds: quick ? 6 : 60 },
      )
      await alone.close()
      await beside.close()
      const { ratio, by_round } = speedRatio(ms.without, ms.with)
      progress(`batch of ${rows}: ${ms.with.length} steps of each arm`)
      return {
        ratio,
        ratio_by_round: by_round,
        without_step_ms: summary(ms.without),
        with_step_ms: summary(ms.with),
      }
    }
    for (const rows of [1, ROWS]) figures[`b${rows}`] = await batch(rows, rows * 100)
    return {
      b1: figures['b1']!.ratio,
      b16: figures['b16']!.ratio,
      past: PAST,
      loaded: { lora_r16: EACH, dora_r16: EACH, ia3: EACH, bottleneck_16: EACH },
      shape: '135m',
      base_precision: plain.info.precision,
      bank_precision: full.info.bankPrecision,
      batches: figures,
    }
  },
}

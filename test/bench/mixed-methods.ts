import type { LoadedAdapter } from '@graft/runner/engine/engine.ts'
import { type Bench, NOTHING } from './bench.ts'
import { interleave, timed } from './interleave.ts'
import { randomBottleneck, randomDora, randomIa3, randomLora } from './random-adapters.ts'
import { randomBase } from './random-base.ts'
import { openRandomEngine } from './random-engine.ts'
import { openRows } from './rows.ts'
import { SHAPES } from './shapes.ts'
import { speedRatio, summary } from './statistics.ts'

const PAST = 100
/** Rows of the mixed batch; every row but the base's has an adapter of its own. */
const MIX = { lora_r16: 4, dora_r16: 4, ia3: 3, bottleneck_16: 3, base: 2 }
const ROWS = Object.values(MIX).reduce((a, b) => a + b)

/** Decode throughput of a batch of all methods over that of as many rows with LoRA adapters of their own. */
export const mixedMethods: Bench = {
  about: 'LoRA, DoRA, IA3, bottleneck and base rows in one batch against LoRA rows alone',
  needs: NOTHING,
  async run({ quick, progress }) {
    const checkpoint = randomBase('random-135m', SHAPES['135m'])
    const { config } = checkpoint
    const loras = Array.from({ length: ROWS }, (_, i) => randomLora(i + 1, config))
    const make = {
      lora_r16: randomLora,
      dora_r16: randomDora,
      ia3: randomIa3,
      bottleneck_16: randomBottleneck,
      base: () => null,
    }
    let number = 100
    const mix: (LoadedAdapter | null)[] = []
    for (const [method, count] of Object.entries(MIX))
      for (let i = 0; i < count; i++) mix.push(make[method as keyof typeof MIX](number++, config))
    await using alike = await openRandomEngine(checkpoint, { slots: 2 * ROWS })
    await using mixed = await openRandomEngine(checkpoint, { slots: ROWS })
    for (const adapter of loras) await alike.load(adapter)
    for (const adapter of mix) if (adapter) await mixed.load(adapter)
    const arms = {
      lora: await openRows(alike, 1, loras, PAST),
      mixed: await openRows(mixed, 1, mix, PAST),
      base: await openRows(alike, 1 + ROWS, Array(ROWS).fill(null), PAST),
    }
    progress('adapters loaded, prompts read')
    const ms = await interleave(
      {
        lora: () => timed(arms.lora.step),
        mixed: () => timed(arms.mixed.step),
        base: () => timed(arms.base.step),
      },
      { warmUp: 2, least: 7, most: 25, seconds: quick ? 10 : 90 },
    )
    progress(`${ms.mixed.length} steps of each arm`)
    const { ratio, by_round } = speedRatio(ms.lora, ms.mixed)
    return {
      ratio,
      ratio_by_round: by_round,
      ratio_to_base: speedRatio(ms.base, ms.mixed).ratio,
      rows: MIX,
      past: PAST,
      shape: '135m',
      base_precision: mixed.info.precision,
      bank_precision: mixed.info.bankPrecision,
      step_ms: Object.fromEntries(
        Object.entries(ms).map(([arm, values]) => [arm, summary(values)]),
      ),
    }
  },
}

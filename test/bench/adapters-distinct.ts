import type { Engine, LoadedAdapter } from '@graft/runner/engine/engine.ts'
import { type Agreement, bankAgreement } from './agreement.ts'
import { type Bench, type BenchOptions, NOTHING } from './bench.ts'
import { interleave, timed } from './interleave.ts'
import { randomLora } from './random-adapters.ts'
import { randomBase } from './random-base.ts'
import { openRandomEngine } from './random-engine.ts'
import { openRows } from './rows.ts'
import { watchRuns } from './run-clock.ts'
import { SHAPES, type ShapeName } from './shapes.ts'
import { rounded, speedRatio, summary } from './statistics.ts'

const ROWS = 16
const RANK = 16
const PAST = 100
/** Banks that are timed beside fp32 when there is time; one counts only where it agrees with fp32. */
const LOWERED = ['fp16', 'int8'] as const

/** Throughput of decoding 16 rows with 16 different LoRA adapters over that of 16 rows of the base alone. */
export const adaptersDistinct: Bench = {
  about: '16 distinct rank-16 adapters in one decode batch against the base alone',
  needs: NOTHING,
  async run(options) {
    const shapes: Record<string, Awaited<ReturnType<typeof measure>>> = {}
    for (const name of Object.keys(SHAPES) as ShapeName[])
      shapes[name] = await measure(name, options)
    return {
      ratio_2048: shapes['2048']!.ratio,
      ratio_135m: shapes['135m']!.ratio,
      rows: ROWS,
      rank: RANK,
      sites: 'all seven linears of every layer',
      past: PAST,
      measured: 'wall clock around Engine.step, interleaved',
      shapes,
    }
  },
}

async function measure(name: ShapeName, options: BenchOptions) {
  const checkpoint = randomBase(`random-${name}`, SHAPES[name])
  const adapters = Array.from({ length: ROWS }, (_, i) =>
    randomLora(i + 1, checkpoint.config, RANK),
  )
  const open = async (bankPrecision: Engine['info']['bankPrecision']) => {
    const engine = await openRandomEngine(checkpoint, { slots: 2 * ROWS, bankPrecision })
    for (const adapter of adapters) await engine.load(adapter)
    return engine
  }
  await using engine = await open('fp32')
  options.progress(`${name}: ${ROWS} adapters loaded`)
  const fp32 = await timeArms(name, engine, adapters, options)
  const lowered: Record<string, { agreement: Agreement } & typeof fp32> = {}
  if (!options.quick)
    for (const precision of LOWERED) {
      await using other = await open(precision)
      options.progress(`${name}: ${precision} bank`)
      const agreement = await bankAgreement(engine, other, adapters, 1000)
      lowered[precision] = { agreement, ...(await timeArms(name, other, adapters, options)) }
    }
  const counting = Object.values(lowered).filter(({ agreement }) => agreement.passes)
  return {
    ...fp32,
    /** Of the fastest bank that counts. */
    ratio: Math.max(fp32.ratio, ...counting.map(({ ratio }) => ratio)),
    ratio_fp32: fp32.ratio,
    lowered_banks: lowered,
    ...SHAPES[name],
  }
}

/** Steps of base rows and of adapted rows in turn, over one engine. */
async function timeArms(
  name: ShapeName,
  engine: Engine,
  adapters: LoadedAdapter[],
  { quick, progress }: BenchOptions,
) {
  const base = await openRows(engine, 1, Array(ROWS).fill(null), PAST)
  const adapted = await openRows(engine, 1 + ROWS, adapters, PAST)
  const runs = watchRuns()
  const graph: Record<'base' | 'adapted', number[]> = { base: [], adapted: [] }
  const arm = (which: keyof typeof graph, step: () => Promise<void>) => async () => {
    runs()
    const ms = await timed(step)
    graph[which].push(runs())
    return ms
  }
  const warmUp = 2
  // All rounds stay within one bucket of the KV cache.
  const ms = await interleave(
    { base: arm('base', base.step), adapted: arm('adapted', adapted.step) },
    { warmUp, least: 5, most: 25, seconds: quick ? 5 : 60 },
  )
  await base.close()
  await adapted.close()
  progress(`${name}: ${ms.base.length} steps of each arm`)
  const { ratio, by_round } = speedRatio(ms.base, ms.adapted)
  const [graphBase, graphAdapted] = [graph.base.slice(warmUp), graph.adapted.slice(warmUp)]
  const tokensPerSecond = (step: { median: number }) => rounded((1000 * ROWS) / step.median)
  const [baseStep, adaptedStep] = [summary(ms.base), summary(ms.adapted)]
  return {
    ratio,
    ratio_by_round: by_round,
    base_precision: engine.info.precision,
    bank_precision: engine.info.bankPrecision,
    base_step_ms: baseStep,
    adapted_step_ms: adaptedStep,
    base_tokens_per_s: tokensPerSecond(baseStep),
    adapted_tokens_per_s: tokensPerSecond(adaptedStep),
    graph_only: {
      ratio: speedRatio(graphBase, graphAdapted).ratio,
      base_ms: summary(graphBase),
      adapted_ms: summary(graphAdapted),
    },
  }
}

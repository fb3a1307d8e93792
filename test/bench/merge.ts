import { join } from 'node:path'
import type { Engine, LoadedAdapter } from '@graft/runner/engine/engine.ts'
import { createMergingEngine } from '@graft/runner/engine/merged/merging-engine.ts'
import { openMergedEngine } from '@graft/runner/engine/merged/open-merged.ts'
import { openEngine } from '@graft/runner/engine/open-engine.ts'
import { fromHex } from '@graft/sdk/format/digest.ts'
import { type Bench, NOTHING } from './bench.ts'
import { interleave, timed } from './interleave.ts'
import { randomLora } from './random-adapters.ts'
import { randomBase } from './random-base.ts'
import { BASE_PRECISION } from './random-engine.ts'
import { writeRandomFolder } from './random-folder.ts'
import { openRows, type Rows, randomPrompt } from './rows.ts'
import { SHAPES } from './shapes.ts'
import { median, rounded, speedRatio, summary } from './statistics.ts'

const PAST = 100
const ROWS = 16
/** Of the 16 rows of the mixed arms: rows of the merged adapter, the others use a second one. */
const HOT_ROWS = 12

/**
 * 16 rows of one rank-16 LoRA on the merged form against 16 rows of the base alone; what a rebuild costs the rows that
 * decode meanwhile; whether merging leaves the base's bits alone.
 */
export const merge: Bench = {
  about: 'one adapter merged into a second base, against the base alone, unmerged, and in a mix',
  needs: NOTHING,
  async run({ quick, progress }) {
    const checkpoint = randomBase('random-135m', SHAPES['135m'])
    const folder = await writeRandomFolder(checkpoint)
    const options = {
      checkpointDir: folder.dir,
      preparedDir: join(folder.dir, 'prepared'),
      baseDigest: fromHex('0'.repeat(64)),
      precision: BASE_PRECISION,
      slots: 5 * ROWS,
      threads: 2,
    } as const
    await using engine = createMergingEngine({
      base: await openEngine(options),
      openMerged: (adapter) => openMergedEngine(options, adapter),
      formBytes: 1,
      budgetBytes: 1,
    })
    try {
      const hot = randomLora(1, checkpoint.config)
      const other = randomLora(2, checkpoint.config)
      for (const adapter of [hot, other]) await engine.load(adapter)
      const mix = Array.from({ length: ROWS }, (_, i) => (i < HOT_ROWS ? hot : other))
      const arms: Record<string, Rows> = {
        base: await openRows(engine, 1, Array(ROWS).fill(null), PAST),
        banked: await openRows(engine, 101, Array(ROWS).fill(hot), PAST),
        mixed_banked: await openRows(engine, 201, mix, PAST),
      }
      const bits = await sampleBits(engine, [null, hot, other])
      progress('base, adapters and rows ready')

      const cycles = quick ? 1 : 10
      const builds: number[] = []
      const slowdowns: number[] = []
      let exact = true
      for (let cycle = 0; cycle < cycles; cycle++) {
        if (cycle > 0) await engine.unmerge(hot.digest)
        exact &&= (await sampleBits(engine, [null, hot, other])) === bits
        const { quiet, during, buildMs } = await rebuild(engine, hot, arms['base']!)
        builds.push(buildMs)
        slowdowns.push(median(during) / median(quiet) - 1)
        progress(`merged ${cycle + 1} of ${cycles} times`)
      }

      arms['merged'] = await openRows(engine, 301, Array(ROWS).fill(hot), PAST)
      arms['mixed_merged'] = await openRows(engine, 401, mix, PAST)
      const ms = await interleave(
        Object.fromEntries(
          Object.entries(arms).map(([name, rows]) => [name, () => timed(rows.step)]),
        ),
        { warmUp: 2, least: 7, most: 40, seconds: quick ? 10 : 90 },
      )
      for (const rows of Object.values(arms)) await rows.close()
      await engine.unmerge(hot.digest)
      exact &&= (await sampleBits(engine, [null, hot, other])) === bits
      const { ratio, by_round } = speedRatio(ms['base']!, ms['merged']!)
      return {
        speed_ratio: ratio,
        restore_exact: exact,
        rebuild_s: rounded(median(builds) / 1000),
        others_slowdown: rounded(median(slowdowns)),
        speed_ratio_by_round: by_round,
        banked_ratio: speedRatio(ms['base']!, ms['banked']!).ratio,
        mixed_merged_over_banked: speedRatio(ms['mixed_banked']!, ms['mixed_merged']!).ratio,
        rows: ROWS,
        mixed_rows: { merged: HOT_ROWS, other_adapter: ROWS - HOT_ROWS },
        cycles,
        past: PAST,
        shape: '135m',
        base_precision: engine.info.precision,
        bank_precision: engine.info.bankPrecision,
        rebuilds_s: builds.map((value) => rounded(value / 1000)),
        others_slowdowns: slowdowns.map((value) => rounded(value)),
        step_ms: Object.fromEntries(
          Object.entries(ms).map(([arm, values]) => [arm, summary(values)]),
        ),
      }
    } finally {
      await folder.remove()
    }
  },
}

/** Steps of the base's rows before and while the form is built. */
async function rebuild(
  engine: ReturnType<typeof createMergingEngine>,
  adapter: LoadedAdapter,
  others: Rows,
) {
  const quiet: number[] = []
  const during: number[] = []
  for (let i = 0; i < 10; i++) quiet.push(await timed(others.step))
  let built = false
  const building = engine
    .merge(adapter, async () => {})
    .finally(() => {
      built = true
    })
  while (!built) during.push(await timed(others.step))
  const { buildMs } = await building
  return { quiet, during, buildMs }
}

let nextId = 10_000

/** Logits of a prompt and a decode step for the base and each adapter, bit by bit. */
async function sampleBits(
  engine: Engine,
  adapters: readonly (LoadedAdapter | null)[],
): Promise<string> {
  const parts: Buffer[] = []
  for (const [i, adapter] of adapters.entries()) {
    const sequence = nextId++
    await engine.open(sequence, adapter ? [{ digest: adapter.digest, weight: 1 }] : [])
    for (const tokenIds of [randomPrompt(i, 24, engine.info.vocab), [7]]) {
      const { rows } = await engine.step([{ sequence, tokenIds, logits: 'last' }])
      parts.push(Buffer.from(rows[0]!.logits.slice().buffer))
    }
    await engine.close(sequence)
  }
  return Buffer.concat(parts).toString('base64')
}

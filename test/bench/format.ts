import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Bench, NOTHING } from './bench.ts'
import { type BigAdapter, writeBigAdapter } from './format/big-adapter.ts'
import type { OneRun } from './format/one-run.ts'
import { median, rounded } from './statistics.ts'

/** 21 MB of rank-64 LoRA each, f32: 24 layers are 500 MB. */
const LAYERS = { quick: 6, whole: 24 }
const REPEATS = { quick: 3, whole: 5 }
const PROGRAM = join(import.meta.dirname, 'format/one-run.ts')

async function run(what: 'import' | 'verify' | 'nothing', adapter: BigAdapter): Promise<OneRun> {
  const child = fork(PROGRAM, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
  const ended = once(child, 'exit')
  child.send({ what, adapter })
  const [answer] = await Promise.race([
    once(child, 'message'),
    ended.then(([code]): never => {
      throw new Error(`the ${what} ended with exit code ${code}`)
    }),
  ])
  await ended
  return answer as OneRun
}

/**
 * A PEFT LoRA of hundreds of megabytes, streamed from disk to disk: imported with every proof, and verified again. One
 * process a run; the files are in the page cache.
 */
export const format: Bench = {
  about: 'importing and verifying a large adapter: MB/s and peak memory',
  needs: NOTHING,
  async run({ quick, progress }) {
    const which = quick ? 'quick' : 'whole'
    const folder = await mkdtemp(join(tmpdir(), 'graft-bench-format-'))
    try {
      const adapter = await writeBigAdapter(folder, LAYERS[which])
      const mb = adapter.bytes / 1e6
      progress(`an adapter of ${mb.toFixed(0)} MB`)
      const runs = { import: [] as OneRun[], verify: [] as OneRun[], nothing: [] as OneRun[] }
      for (let i = 0; i < REPEATS[which]; i++)
        for (const what of ['import', 'verify', 'nothing'] as const) {
          const one = await run(what, adapter)
          runs[what].push(one)
          progress(`${what}: ${one.seconds.toFixed(2)} s, ${(one.peakRss / 1e6).toFixed(0)} MB`)
        }
      const speeds = (what: 'import' | 'verify') => runs[what].map(({ seconds }) => mb / seconds)
      const peak = (what: 'import' | 'verify' | 'nothing') =>
        Math.max(...runs[what].map(({ peakRss }) => peakRss)) / 1e6
      const spread = (values: number[]) =>
        [Math.min(...values), Math.max(...values)].map((value) => rounded(value))
      return {
        import_mb_s: rounded(median(speeds('import'))),
        verify_mb_s: rounded(median(speeds('verify'))),
        peak_rss_ratio: rounded(peak('import') / mb),
        adapter_mb: rounded(mb),
        import_peak_mb: rounded(peak('import')),
        verify_peak_mb: rounded(peak('verify')),
        process_peak_mb: rounded(peak('nothing')),
        import_mb_s_spread: spread(speeds('import')),
        verify_mb_s_spread: spread(speeds('verify')),
      }
    } finally {
      await rm(folder, { recursive: true, force: true })
    }
  },
}

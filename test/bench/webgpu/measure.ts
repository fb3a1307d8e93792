/** The measuring process of the bench `webgpu`: its environment says which adapter there is. Prints one JSON object. */
import { interleave, timed } from '../interleave.ts'
import { randomLora } from '../random-adapters.ts'
import { randomBase } from '../random-base.ts'
import { openRandomEngine } from '../random-engine.ts'
import { openRows } from '../rows.ts'
import { SHAPES } from '../shapes.ts'
import { speedRatio, summary } from '../statistics.ts'
import { watchCopies } from './watch-copies.ts'

const ROWS = 16
const RANK = 16

/** What a software adapter gets through in a minute, and what a GPU is measured on. */
const SCALES = {
  few: { layers: 1, vocab: 1024, past: 8 },
  full: { layers: SHAPES['135m'].layers, vocab: SHAPES['135m'].vocab, past: 100 },
}

const [scale, seconds] = process.argv.slice(2)
const progress = (line: string) => process.stderr.write(`${line}\n`)
const { layers, vocab, past } = SCALES[scale === 'few' ? 'few' : 'full']
const checkpoint = randomBase('random-135m', { ...SHAPES['135m'], layers, vocab })
await using engine = await openRandomEngine(checkpoint, { slots: 2 * ROWS, execution: 'webgpu' })
const adapters = Array.from({ length: ROWS }, (_, i) => randomLora(i + 1, checkpoint.config, RANK))
for (const adapter of adapters) await engine.load(adapter)
const base = await openRows(engine, 1, Array(ROWS).fill(null), past)
const adapted = await openRows(engine, 1 + ROWS, adapters, past)
progress(`${ROWS} adapters loaded, prompts read`)
const copies = watchCopies()
const ms = await interleave(
  { base: () => timed(base.step), adapted: () => timed(adapted.step) },
  { warmUp: 1, least: 3, most: 25, seconds: Number(seconds) },
)
progress(`${ms.base.length} steps of each arm`)
const perStep = async (step: () => Promise<void>) => {
  copies()
  await step()
  const { toDevice, toHost, kv } = copies()
  return { kv, to_device: toDevice, to_host: toHost }
}
const bytes = { base: await perStep(base.step), adapted: await perStep(adapted.step) }
const { ratio, by_round } = speedRatio(ms.base, ms.adapted)
process.stdout.write(
  JSON.stringify({
    ratio_16: ratio,
    kv_bytes_copied_per_step: bytes.base.kv + bytes.adapted.kv,
    ratio_by_round: by_round,
    rows: ROWS,
    rank: RANK,
    past,
    base_precision: engine.info.precision,
    bank_precision: engine.info.bankPrecision,
    base_step_ms: summary(ms.base),
    adapted_step_ms: summary(ms.adapted),
    bytes_copied_per_step: bytes,
    shape: { ...SHAPES['135m'], layers, vocab },
  }),
)

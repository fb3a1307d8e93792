import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describeCheckpoint } from '@graft/runner/checkpoint/describe-checkpoint.ts'
import { readCheckpoint } from '@graft/runner/checkpoint/read-checkpoint.ts'
import type { Engine } from '@graft/runner/engine/engine.ts'
import { openOnnxEngine } from '@graft/runner/engine/onnx/onnx-engine.ts'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { freshId, logitsOf, logitsTogether, type Terms } from './measure.ts'
import { importFolder, readJson, readLogits, worstPosition } from './peer-goldens.ts'

interface GoldenFile {
  logitsFile: string
  prompts: {
    tokenIds: number[]
    greedy: { tokenIds: number[]; margins: number[] }
    positions: number[]
  }[]
}

const SAMPLES = join(import.meta.dirname, '../../../infra/samples')
const BASE = join(SAMPLES, 'base/graft-tiny')
const GOLDENS = join(SAMPLES, 'goldens')
const names = (existsSync(GOLDENS) ? readdirSync(GOLDENS) : [])
  .flatMap((file) => (file.endsWith('.json') ? [file.slice(0, -5)] : []))
  .filter((name) => name === 'base' || existsSync(join(SAMPLES, 'adapters', name)))
  .filter((name) => {
    const { prompts } = JSON.parse(
      readFileSync(join(GOLDENS, `${name}.json`), 'utf8'),
    ) as GoldenFile
    if (prompts.length === 0) console.warn(`skipped: the goldens of ${name} hold no prompt`)
    return prompts.length > 0
  })
const absent = names.length === 0 || !existsSync(join(BASE, 'model.safetensors'))
if (absent) console.warn('skipped: infra/samples has no base with goldens')
const LIMIT = 1e-4

let engine: Engine
const terms = new Map<string, Terms>([['base', []]])
const goldens = new Map<string, { file: GoldenFile; logits: Map<string, Float32Array> }>()
const worst = { alone: 0, together: 0, where: '' }

beforeAll(async () => {
  if (absent) return
  const base = await describeCheckpoint(BASE, 'graft-tiny')
  engine = await openOnnxEngine({ checkpoint: await readCheckpoint(BASE), baseDigest: base.digest })
  for (const name of names) {
    const file = await readJson<GoldenFile>(join(GOLDENS, `${name}.json`))
    goldens.set(name, { file, logits: await readLogits(join(GOLDENS, file.logitsFile)) })
    if (name === 'base') continue
    const adapter = await importFolder(join(SAMPLES, 'adapters', name), base)
    await engine.load(adapter)
    terms.set(name, [{ digest: adapter.digest, weight: 1 }])
  }
}, 180_000)

afterAll(async () => {
  if (absent) return
  console.log(
    `${names.length} samples, worst share of max |logit|: alone ${worst.alone.toExponential(2)}, ` +
      `in one batch ${worst.together.toExponential(2)} (${worst.where})`,
  )
  await engine?.[Symbol.asyncDispose]()
})

const prefixOf = (name: string) => (name === 'base' ? 'base' : 'adapted')

/** Holds logits of all positions against the golden ones, of which a file may keep the last few. */
function compare(key: 'alone' | 'together', name: string, prompt: number, own: Float32Array): void {
  const { vocab } = engine.info
  const { file, logits } = goldens.get(name)!
  const kept = file.prompts[prompt]!.positions.flatMap((p) => [
    ...own.subarray(p * vocab, (p + 1) * vocab),
  ])
  const golden = logits.get(`${prefixOf(name)}.${prompt}`)!
  const share = worstPosition(Float32Array.from(kept), golden, vocab)
  if (share > worst[key]) Object.assign(worst, { [key]: share, where: `${name}, prompt ${prompt}` })
  expect(share).toBeLessThanOrEqual(LIMIT)
}

test.skipIf(absent).each(names)('%s alone gives the logits of its producer', async (name) => {
  for (const [i, { tokenIds }] of goldens.get(name)!.file.prompts.entries())
    compare('alone', name, i, await logitsOf(engine, terms.get(name)!, tokenIds))
})

test.skipIf(absent).each(names)('%s answers greedily as its producer does', async (name) => {
  const { vocab } = engine.info
  for (const { tokenIds, greedy } of goldens.get(name)!.file.prompts) {
    const id = freshId()
    await engine.open(id, terms.get(name)!)
    let next = tokenIds
    for (const [t, token] of greedy.tokenIds.entries()) {
      const { rows } = await engine.step([{ sequence: id, tokenIds: next, logits: 'last' }])
      const { logits } = rows[0]!
      let [best, most] = [0, 0]
      for (let i = 0; i < vocab; i++) {
        if (logits[i]! > logits[best]!) best = i
        most = Math.max(most, Math.abs(logits[i]!))
      }
      // Behind a near-tie two right answers may go different ways.
      if (greedy.margins[t]! < LIMIT * most) break
      expect(best).toBe(token)
      next = [token]
    }
    await engine.close(id)
  }
})

test.skipIf(absent)('all samples and base rows in one batch give the same logits', async () => {
  const cases = names.flatMap((name) => {
    const { tokenIds } = goldens.get(name)!.file.prompts[0]!
    return [{ name, tokenIds }]
  })
  const runs = cases.map(({ name, tokenIds }) => ({
    terms: terms.get(name)!,
    prompt: tokenIds.slice(0, -8),
    answer: tokenIds.slice(-8),
  }))
  const other = cases[0]!.tokenIds
  runs.push({ terms: [], prompt: other.slice(0, -8), answer: other.slice(-8) })
  const together = await logitsTogether(engine, runs)
  for (const [c, { name }] of cases.entries()) compare('together', name, 0, together[c]!)
})

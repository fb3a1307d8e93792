import { join } from 'node:path'
import { describeCheckpoint } from '@graft/runner/checkpoint/describe-checkpoint.ts'
import { readCheckpoint } from '@graft/runner/checkpoint/read-checkpoint.ts'
import type { Engine } from '@graft/runner/engine/engine.ts'
import { openOnnxEngine } from '@graft/runner/engine/onnx/onnx-engine.ts'
import { openReferenceEngine } from '@graft/runner/engine/reference/reference-engine.ts'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { logitsTogether, type Terms } from './measure.ts'
import { importFolder, readJson, readLogits, worstPosition } from './peer-goldens.ts'

interface Facts {
  prompts: number[][]
  steps: number[][]
  adapters_made: string[]
  sums: Record<string, { adapter: string; weight: number }[]>
}

const FIXTURES = join(import.meta.dirname, 'fixtures/operations')
const LIMIT = 1e-4

/** Logits of the prompt in one call, then of each step, by the tools: fixtures/make-operations.py. */
async function openBase(name: string) {
  const folder = join(FIXTURES, name)
  const base = await describeCheckpoint(join(folder, 'base'), name)
  const checkpoint = await readCheckpoint(join(folder, 'base'))
  const facts = await readJson<Facts>(join(folder, 'goldens.json'))
  const goldens = await readLogits(join(folder, 'goldens.safetensors'))
  const engines: Record<'onnx' | 'reference', Engine> = {
    onnx: await openOnnxEngine({ checkpoint, baseDigest: base.digest }),
    reference: await openReferenceEngine({ checkpoint, baseDigest: base.digest }),
  }
  const terms = new Map<string, Terms>([['base', []]])
  for (const adapter of facts.adapters_made) {
    const loaded = await importFolder(join(folder, adapter), base)
    for (const engine of Object.values(engines)) await engine.load(loaded)
    terms.set(adapter, [{ digest: loaded.digest, weight: 1 }])
  }
  for (const [sum, parts] of Object.entries(facts.sums))
    terms.set(
      `sum:${sum}`,
      parts.map(({ adapter, weight }) => ({ ...terms.get(adapter)![0]!, weight })),
    )
  return { engines, goldens, facts, terms }
}

describe.each([
  { base: 'biased', adapters: 32 },
  { base: 'tied', adapters: 4 },
])('on the $base base', ({ base, adapters }) => {
  let opened: Awaited<ReturnType<typeof openBase>>
  const worst = { onnx: 0, reference: 0, together: 0 }

  beforeAll(async () => {
    opened = await openBase(base)
  }, 120_000)
  afterAll(async () => {
    console.log(`${base}: worst share of max |logit| against the tools: ${JSON.stringify(worst)}`)
    for (const engine of Object.values(opened?.engines ?? {})) await engine[Symbol.asyncDispose]()
  })

  const compare = (key: keyof typeof worst, own: Float32Array, name: string, prompt: number) => {
    const golden = opened.goldens.get(`${name}.${prompt}`)!
    const share = worstPosition(own, golden, opened.engines.onnx.info.vocab)
    worst[key] = Math.max(worst[key], share)
    expect(share, `${name}, prompt ${prompt}, ${key}`).toBeLessThanOrEqual(LIMIT)
  }
  const runsOf = (names: string[]) =>
    names.flatMap((name) =>
      opened.facts.prompts.map((prompt, i) => ({
        name,
        i,
        terms: opened.terms.get(name)!,
        prompt,
        answer: opened.facts.steps[i]!,
      })),
    )

  test.each(['reference', 'onnx'] as const)(
    'every adapter and sum alone gives the logits of the tool that made it: %s',
    async (key) => {
      expect(opened.facts.adapters_made).toHaveLength(adapters)
      for (const run of runsOf([...opened.terms.keys()])) {
        const [own] = await logitsTogether(opened.engines[key], [run])
        compare(key, own!, run.name, run.i)
      }
    },
    120_000,
  )

  test('no golden is the base itself', () => {
    const { vocab } = opened.engines.onnx.info
    const plain = opened.goldens.get('base.0')!
    for (const name of opened.terms.keys())
      if (name !== 'base')
        expect(worstPosition(opened.goldens.get(`${name}.0`)!, plain, vocab)).toBeGreaterThan(0.05)
  })

  test('all of them, sums and the base in batches of 16 rows give the same logits', async () => {
    const runs = runsOf([...opened.terms.keys(), 'base'])
    // A stride of the list, so that kinds mix in every batch.
    const batches = Math.ceil(runs.length / 16)
    for (let b = 0; b < batches; b++) {
      const batch = runs.filter((_, i) => i % batches === b)
      const together = await logitsTogether(opened.engines.onnx, batch)
      for (const [r, { name, i }] of batch.entries()) compare('together', together[r]!, name, i)
    }
  }, 120_000)
})

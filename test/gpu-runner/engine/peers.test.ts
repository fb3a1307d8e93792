import { join } from 'node:path'
import { describeCheckpoint } from '@graft/runner/checkpoint/describe-checkpoint.ts'
import { readCheckpoint } from '@graft/runner/checkpoint/read-checkpoint.ts'
import type { Engine } from '@graft/runner/engine/engine.ts'
import { openOnnxEngine } from '@graft/runner/engine/onnx/onnx-engine.ts'
import { openReferenceEngine } from '@graft/runner/engine/reference/reference-engine.ts'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { logitsOf, logitsTogether, type Terms } from './measure.ts'
import { importFolder, readJson, readLogits, worstPosition } from './peer-goldens.ts'

const PEERS = join(import.meta.dirname, 'fixtures/peers')
const NAMES = [
  'lora',
  'rslora-patterns',
  'dora',
  'lora-head',
  'ia3',
  'prompt',
  'prefix',
  'seq-bn',
  'double-seq-bn',
]
const LIMIT = 1e-4

let engines: { onnx: Engine; reference: Engine }
let goldens: Map<string, Float32Array>
let prompts: number[][]
const terms = new Map<string, Terms>([['base', []]])
const worst = { onnx: 0, reference: 0, together: 0 }

beforeAll(async () => {
  const dir = join(PEERS, 'base')
  const base = await describeCheckpoint(dir, 'peers-base')
  const checkpoint = await readCheckpoint(dir)
  engines = {
    onnx: await openOnnxEngine({ checkpoint, baseDigest: base.digest }),
    reference: await openReferenceEngine({ checkpoint, baseDigest: base.digest }),
  }
  goldens = await readLogits(join(PEERS, 'goldens.safetensors'))
  ;({ prompts } = await readJson<{ prompts: number[][] }>(join(PEERS, 'goldens.json')))
  for (const name of NAMES) {
    const adapter = await importFolder(join(PEERS, name), base)
    terms.set(name, [{ digest: adapter.digest, weight: 1 }])
    for (const engine of Object.values(engines)) await engine.load(adapter)
  }
}, 180_000)

afterAll(async () => {
  console.log(`worst share of max |logit| against the tools: ${JSON.stringify(worst)}`)
  for (const engine of Object.values(engines ?? {})) await engine[Symbol.asyncDispose]()
})

const compare = (key: keyof typeof worst, own: Float32Array, name: string, prompt: number) => {
  const share = worstPosition(own, goldens.get(`${name}.${prompt}`)!, engines.onnx.info.vocab)
  worst[key] = Math.max(worst[key], share)
  expect(share).toBeLessThanOrEqual(LIMIT)
}

test.each(['base', ...NAMES])(
  '%s alone gives the logits of the tool that made it',
  async (name) => {
    for (const [i, prompt] of prompts.entries())
      for (const key of ['onnx', 'reference'] as const)
        compare(key, await logitsOf(engines[key], terms.get(name)!, prompt), name, i)
    if (name === 'base') return
    // Goldens without an effect would prove nothing.
    const [own, base] = [goldens.get(`${name}.0`)!, goldens.get('base.0')!]
    expect(worstPosition(own, base, engines.onnx.info.vocab)).toBeGreaterThan(0.01)
  },
)

test('all of them and the base in one batch give the logits of the tools', async () => {
  const cases = ['base', ...NAMES, 'base'].flatMap((name) =>
    prompts.map((prompt, i) => ({ name, i, prompt })),
  )
  const together = await logitsTogether(
    engines.onnx,
    cases.map(({ name, prompt }) => ({
      terms: terms.get(name)!,
      prompt: prompt.slice(0, 2),
      answer: prompt.slice(2),
    })),
  )
  for (const [c, { name, i }] of cases.entries()) compare('together', together[c]!, name, i)
})

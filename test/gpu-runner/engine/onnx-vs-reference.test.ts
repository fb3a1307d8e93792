import { readCheckpoint } from '@graft/runner/checkpoint/read-checkpoint.ts'
import type { Engine } from '@graft/runner/engine/engine.ts'
import { openOnnxEngine } from '@graft/runner/engine/onnx/onnx-engine.ts'
import { openReferenceEngine } from '@graft/runner/engine/reference/reference-engine.ts'
import { fromHex } from '@graft/sdk/format/digest.ts'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { logitsOf, logitsTogether, worstShare } from './measure.ts'
import { dora, everyOperation, ia3, lowRank } from './random-adapters.ts'
import { writeTinyCheckpoint } from './tiny-checkpoint.ts'

const LIMIT = 1e-4
const BASE = fromHex('b'.repeat(64))
const PROMPT = [5, 3, 100, 60, 7, 7, 19, 127, 0, 42]
const adapters = everyOperation()

let onnx: Engine
let reference: Engine
let worst = 0
let tiny: Awaited<ReturnType<typeof writeTinyCheckpoint>>

beforeAll(async () => {
  tiny = await writeTinyCheckpoint()
  const checkpoint = await readCheckpoint(tiny.dir)
  onnx = await openOnnxEngine({ checkpoint, baseDigest: BASE })
  reference = await openReferenceEngine({ checkpoint, baseDigest: BASE })
  for (const engine of [onnx, reference])
    for (const adapter of Object.values(adapters)) await engine.load(adapter)
})

afterAll(async () => {
  console.log(`worst share of max |logit|, onnx against reference: ${worst.toExponential(2)}`)
  await onnx?.[Symbol.asyncDispose]()
  await reference?.[Symbol.asyncDispose]()
  await tiny?.remove()
})

const agree = (a: Float32Array, b: Float32Array): void => {
  const share = worstShare(a, b)
  worst = Math.max(worst, share)
  expect(share).toBeLessThanOrEqual(LIMIT)
}

test('the base alone gives the reference logits', async () => {
  agree(await logitsOf(onnx, [], PROMPT), await logitsOf(reference, [], PROMPT))
})

test.each(Object.entries(adapters))('%s alone gives the reference logits', async (_, adapter) => {
  const terms = [{ digest: adapter.digest, weight: 1 }]
  const [own, base] = [
    await logitsOf(reference, terms, PROMPT),
    await logitsOf(reference, [], PROMPT),
  ]
  agree(await logitsOf(onnx, terms, PROMPT), own)
  // An adapter without effect would agree whatever the engine does.
  expect(worstShare(own, base)).toBeGreaterThan(0.01)
})

test('weighted sums of low_rank, magnitude and scale give the reference logits', async () => {
  const [a, b, c] = [lowRank(1), dora(3), ia3(4)].map(({ digest }) => digest)
  for (const terms of [
    [{ digest: a!, weight: 0.5 }],
    [{ digest: b!, weight: -0.7 }],
    [
      { digest: a!, weight: 0.25 },
      { digest: a!, weight: 0.5 },
    ],
    [
      { digest: a!, weight: 0.6 },
      { digest: lowRank(2, 1).digest, weight: 1.5 },
    ],
    [
      { digest: a!, weight: 0.6 },
      { digest: c!, weight: 0.4 },
    ],
    [
      { digest: a!, weight: 0.3 },
      { digest: b!, weight: 0.5 },
    ],
  ])
    agree(await logitsOf(onnx, terms, PROMPT), await logitsOf(reference, terms, PROMPT))
})

test('every operation, a sum and base rows in one batch give the reference logits', async () => {
  const prompts = [PROMPT, [9, 8, 60], [11, 3, 7, 2, 1, 44, 90]]
  const terms = [
    [],
    ...Object.values(adapters).map(({ digest }) => [{ digest, weight: 1 }]),
    [
      { digest: lowRank(1).digest, weight: 0.6 },
      { digest: dora(3).digest, weight: 0.4 },
    ],
    [],
  ]
  const runs = terms.map((own, i) => ({
    terms: own,
    prompt: prompts[i % 3]!,
    answer: [17, 60, 3, 7, 99].slice(0, 3 + (i % 3)),
  }))
  const together = await logitsTogether(onnx, runs)
  for (const [i, run] of runs.entries())
    agree(together[i]!, (await logitsTogether(reference, [run]))[0]!)
})

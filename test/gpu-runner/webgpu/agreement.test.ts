import { type Checkpoint, readCheckpoint } from '@graft/runner/checkpoint/read-checkpoint.ts'
import type { Engine } from '@graft/runner/engine/engine.ts'
import { openOnnxEngine } from '@graft/runner/engine/onnx/onnx-engine.ts'
import { openReferenceEngine } from '@graft/runner/engine/reference/reference-engine.ts'
import { fromHex } from '@graft/sdk/format/digest.ts'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { logitsOf, logitsTogether, type Terms, worstShare } from '../engine/measure.ts'
import { dora, everyOperation, lowRank } from '../engine/random-adapters.ts'
import { writeTinyCheckpoint } from '../engine/tiny-checkpoint.ts'
import { describeOnWebGpu } from './adapter.ts'

const LIMIT = 1e-4
const baseDigest = fromHex('b'.repeat(64))
const PROMPT = [5, 3, 100, 60, 7, 7, 19, 127, 0, 42]
const adapters = everyOperation()
const alone = Object.values(adapters).map(({ digest }): Terms => [{ digest, weight: 1 }])
const sum: Terms = [
  { digest: lowRank(1).digest, weight: 0.6 },
  { digest: dora(3).digest, weight: 0.4 },
]

/** The weights that blocks of 32 with one scale and values -top..top stand for, in place of the linears' own. */
function rounded(checkpoint: Checkpoint, top: number): Checkpoint {
  const round = (w: Float32Array): Float32Array => {
    const out = new Float32Array(w.length)
    for (let at = 0; at < w.length; at += 32) {
      const block = w.subarray(at, at + 32)
      const scale = Math.fround(block.reduce((most, v) => Math.max(most, Math.abs(v)), 0) / top)
      out.set(
        block.map((v) => Math.round(v / scale) * scale),
        at,
      )
    }
    return out
  }
  const linear = /(_proj|lm_head)\.weight$/
  return {
    ...checkpoint,
    f32: (name, shape) =>
      linear.test(name) ? round(checkpoint.f32(name, shape)) : checkpoint.f32(name, shape),
  }
}

describeOnWebGpu('logits on the device', () => {
  const engines: Engine[] = []
  const worst = new Map<string, number>()
  let tiny: Awaited<ReturnType<typeof writeTinyCheckpoint>>
  let checkpoint: Checkpoint
  let device: Engine
  let reference: Engine

  const opened = async (opening: Promise<Engine>): Promise<Engine> => {
    const engine = await opening
    engines.push(engine)
    for (const adapter of Object.values(adapters)) await engine.load(adapter)
    return engine
  }

  beforeAll(async () => {
    tiny = await writeTinyCheckpoint()
    checkpoint = await readCheckpoint(tiny.dir)
    reference = await opened(openReferenceEngine({ checkpoint, baseDigest }))
    device = await opened(openOnnxEngine({ checkpoint, baseDigest, execution: 'webgpu' }))
  })

  afterAll(async () => {
    for (const [name, share] of worst)
      console.log(`worst share of max |logit|, WebGPU against ${name}: ${share.toExponential(2)}`)
    for (const engine of engines) await engine[Symbol.asyncDispose]()
    await tiny?.remove()
  })

  const agree = (name: string, a: Float32Array, b: Float32Array): void => {
    const share = worstShare(a, b)
    worst.set(name, Math.max(worst.get(name) ?? 0, share))
    expect(share).toBeLessThanOrEqual(LIMIT)
  }

  test.each(Object.entries(adapters))('%s gives the reference logits', async (_, { digest }) => {
    const terms = [{ digest, weight: 1 }]
    const want = await logitsOf(reference, terms, PROMPT)
    agree('the reference', await logitsOf(device, terms, PROMPT), want)
  })

  test('every operation, a sum and base rows in one batch give the reference logits', async () => {
    const prompts = [PROMPT, [9, 8, 60], [11, 3, 7, 2, 1, 44, 90]]
    const runs = [[], ...alone, sum, []].map((terms, i) => ({
      terms,
      prompt: prompts[i % 3]!,
      answer: [17, 60, 3, 7, 99].slice(0, 3 + (i % 3)),
    }))
    const together = await logitsTogether(device, runs)
    for (const [i, run] of runs.entries()) {
      const [want] = await logitsTogether(reference, [run])
      agree('the reference, mixed', together[i]!, want!)
    }
  })

  test.each([
    ['int8', 127],
    ['int4', 7],
  ] as const)(
    'a base at %s gives the logits of the weights that its blocks stand for',
    async (precision, top) => {
      const own = await opened(
        openOnnxEngine({ checkpoint, baseDigest, precision, execution: 'webgpu' }),
      )
      const want = await opened(
        openReferenceEngine({ checkpoint: rounded(checkpoint, top), baseDigest }),
      )
      // No DoRA: its norms are those of the weights before rounding, which the reference does not have here.
      const lora = { digest: lowRank(1).digest, weight: 1 }
      const sum = [
        { ...lora, weight: 0.6 },
        { digest: lowRank(2, 1).digest, weight: 1.5 },
      ]
      for (const terms of [[], [lora], sum])
        agree(
          `the reference at ${precision}`,
          await logitsOf(own, terms, PROMPT),
          await logitsOf(want, terms, PROMPT),
        )
    },
  )
})

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { readCheckpoint } from '@graft/runner/checkpoint/read-checkpoint.ts'
import type { KvPrecision } from '@graft/runner/engine/bank/kv-format.ts'
import { openOnnxEngine } from '@graft/runner/engine/onnx/onnx-engine.ts'
import { parseKvPrecision } from '@graft/runner/engine/open-engine.ts'
import { fromHex } from '@graft/sdk/format/digest.ts'
import { expect, test } from 'vitest'
import { worstShare } from './measure.ts'

const SAMPLES = join(import.meta.dirname, '../../../infra/samples')
const ANSWER = 48
/** Later chunks and every answer token read what was held. */
const CHUNK = 32

const checkpoint = await readCheckpoint(join(SAMPLES, 'base/graft-tiny'))
const { prompts } = JSON.parse(readFileSync(join(SAMPLES, 'goldens/base.json'), 'utf8')) as {
  prompts: { tokenIds: number[] }[]
}
const baseDigest = fromHex('b'.repeat(64))

const best = (logits: Float32Array): number =>
  logits.reduce((most, value, i) => (value > logits[most]! ? i : most), 0)

/** Logits of the answers' positions; the answers are greedy, or `forced`. */
async function answers(kvPrecision: KvPrecision, forced?: number[][]) {
  const engine = await openOnnxEngine({ checkpoint, baseDigest, kvPrecision })
  const logits: Float32Array[] = []
  const tokens: number[][] = []
  for (const [id, { tokenIds }] of prompts.entries()) {
    await engine.open(id, [])
    const feed = async (part: number[]) =>
      (await engine.step([{ sequence: id, tokenIds: part, logits: 'last' }])).rows[0]!.logits
    let last = new Float32Array()
    for (let at = 0; at < tokenIds.length; at += CHUNK)
      last = (await feed(tokenIds.slice(at, at + CHUNK))) as Float32Array<ArrayBuffer>
    const answer: number[] = []
    for (let t = 0; t < ANSWER; t++) {
      logits.push(last)
      answer.push(forced?.[id]?.[t] ?? best(last))
      last = (await feed(answer.slice(-1))) as Float32Array<ArrayBuffer>
    }
    tokens.push(answer)
    await engine.close(id)
  }
  await engine[Symbol.asyncDispose]()
  return { logits, tokens }
}

function logSoftmax(logits: Float32Array): Float64Array {
  const most = Math.max(...logits)
  const sum = logits.reduce((total, x) => total + Math.exp(x - most), 0)
  return Float64Array.from(logits, (x) => x - most - Math.log(sum))
}

/** KL(want || got) in nats. */
function divergence(want: Float32Array, got: Float32Array): number {
  const [p, q] = [logSoftmax(want), logSoftmax(got)]
  return p.reduce((sum, value, i) => sum + Math.exp(value) * (value - q[i]!), 0)
}

const full = await answers('fp32')

test.each([
  { precision: 'fp16', share: 1e-3, kl: 1e-6, top1: 1 },
  { precision: 'int8', share: 1.2e-2, kl: 5e-5, top1: 0.98 },
] as const)(
  'keys and values in $precision change the logits by little',
  async ({ precision, share, kl, top1 }) => {
    const { logits } = await answers(precision, full.tokens)
    const shares = logits.map((own, i) => worstShare(own, full.logits[i]!))
    const divergences = logits.map((own, i) => divergence(full.logits[i]!, own))
    const same = logits.filter((own, i) => best(own) === best(full.logits[i]!)).length
    const seen = {
      share: Math.max(...shares),
      kl: divergences.reduce((sum, x) => sum + x, 0) / logits.length,
      top1: same / logits.length,
    }
    console.info(`${precision} keys and values against fp32: ${JSON.stringify(seen)}`)
    // What was never rounded would pass the rest.
    expect(seen.share).toBeGreaterThan(1e-5)
    expect(seen.share).toBeLessThan(share)
    expect(seen.kl).toBeLessThan(kl)
    expect(seen.top1).toBeGreaterThanOrEqual(top1)
  },
)

test('a precision that keys and values cannot have is refused', () => {
  expect(() => parseKvPrecision('fp8')).toThrow(
    expect.objectContaining({
      code: 'ERR_REQUEST_INVALID',
      message: expect.stringContaining('fp16'),
    }),
  )
})

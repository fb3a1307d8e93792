import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { describeCheckpoint } from '@graft/runner/checkpoint/describe-checkpoint.ts'
import { readCheckpoint } from '@graft/runner/checkpoint/read-checkpoint.ts'
import type { Engine, LoadedAdapter } from '@graft/runner/engine/engine.ts'
import { openOnnxEngine } from '@graft/runner/engine/onnx/onnx-engine.ts'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { logitsOf } from './measure.ts'
import { importFolder, readJson } from './peer-goldens.ts'

const SAMPLES = join(import.meta.dirname, '../../../infra/samples')
const BASE = join(SAMPLES, 'base/graft-tiny')
const NAMES = ['json-lora-r16', 'sql-lora-r64', 'json-rslora', 'intent-dora']
const absent = !existsSync(join(BASE, 'model.safetensors'))
if (absent) console.warn('skipped: infra/samples has no base')

const engines = new Map<'fp32' | 'fp16' | 'int8', Engine>()
const bytes = new Map<string, number>()
const prompts = new Map<string, number[][]>()
const adapters = new Map<string, LoadedAdapter>()

beforeAll(async () => {
  if (absent) return
  const base = await describeCheckpoint(BASE, 'graft-tiny')
  const checkpoint = await readCheckpoint(BASE)
  for (const name of NAMES) {
    adapters.set(name, await importFolder(join(SAMPLES, 'adapters', name), base))
    const file = await readJson<{
      prompts: { tokenIds: number[]; greedy: { tokenIds: number[] } }[]
    }>(join(SAMPLES, 'goldens', `${name}.json`))
    prompts.set(
      name,
      file.prompts.map(({ tokenIds, greedy }) => [...tokenIds, ...greedy.tokenIds]),
    )
  }
  for (const bankPrecision of ['fp32', 'fp16', 'int8'] as const) {
    const engine = await openOnnxEngine({ checkpoint, baseDigest: base.digest, bankPrecision })
    engines.set(bankPrecision, engine)
    for (const [name, adapter] of adapters)
      bytes.set(`${name} ${bankPrecision}`, (await engine.load(adapter)).bytes)
  }
}, 120_000)

afterAll(async () => {
  for (const engine of engines.values()) await engine[Symbol.asyncDispose]()
})

/** Over all positions: mean KL divergence from `want`, and the share of equal top tokens. */
function divergence(got: Float32Array, want: Float32Array, vocab: number) {
  let [kl, same] = [0, 0]
  const positions = want.length / vocab
  for (let p = 0; p < positions; p++) {
    const [a, b] = [got, want].map((logits) => logits.subarray(p * vocab, (p + 1) * vocab))
    const [lp, lq] = [logSoftmax(b!), logSoftmax(a!)]
    for (let i = 0; i < vocab; i++) kl += Math.exp(lp[i]!) * (lp[i]! - lq[i]!)
    if (a!.indexOf(Math.max(...a!)) === b!.indexOf(Math.max(...b!))) same++
  }
  return { kl: kl / positions, top1: same / positions, positions }
}

function logSoftmax(logits: Float32Array): Float64Array {
  const most = Math.max(...logits)
  const total = Math.log(logits.reduce((sum, value) => sum + Math.exp(value - most), 0))
  return Float64Array.from(logits, (value) => value - most - total)
}

describe.skipIf(absent)('a bank below fp32', () => {
  test.each(['fp16', 'int8'] as const)(
    'at %s keeps the top token at 99.5%% of positions and a KL of at most 1e-3',
    async (precision) => {
      let [kl, same, positions] = [0, 0, 0]
      for (const [name, { digest }] of adapters)
        for (const tokens of prompts.get(name)!) {
          const terms = [{ digest, weight: 1 }]
          const want = await logitsOf(engines.get('fp32')!, terms, tokens)
          const own = await logitsOf(engines.get(precision)!, terms, tokens)
          // A bank that rounds nothing would pass the rest.
          expect(own).not.toEqual(want)
          const found = divergence(own, want, engines.get(precision)!.info.vocab)
          kl += found.kl * found.positions
          same += found.top1 * found.positions
          positions += found.positions
        }
      console.log(
        `${precision} bank over ${positions} positions: top token equal ${(same / positions).toFixed(4)}, KL ${(kl / positions).toExponential(2)}`,
      )
      expect(same / positions).toBeGreaterThanOrEqual(0.995)
      expect(kl / positions).toBeLessThanOrEqual(1e-3)
    },
  )

  test('takes less memory, and says so in its build', () => {
    for (const name of ['json-lora-r16', 'sql-lora-r64', 'json-rslora']) {
      const [full, half, quarter] = ['fp32', 'fp16', 'int8'].map((p) => bytes.get(`${name} ${p}`)!)
      // Half of what is counted are the pages of an open sequence, in fp32 always.
      expect(half! / full!).toBeLessThan(0.8)
      expect(quarter! / full!).toBeLessThan(0.7)
    }
    for (const [precision, { info }] of engines) {
      expect(info.bankPrecision).toBe(precision)
      expect(info.build).toContain(`+fp32-${precision}-kv-`)
    }
  })
})

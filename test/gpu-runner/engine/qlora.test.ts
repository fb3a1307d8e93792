import { join } from 'node:path'
import { measure } from '@graft/runner/admission/compare.ts'
import { describeCheckpoint } from '@graft/runner/checkpoint/describe-checkpoint.ts'
import { readCheckpoint } from '@graft/runner/checkpoint/read-checkpoint.ts'
import type { Engine, LoadedAdapter } from '@graft/runner/engine/engine.ts'
import type { Precision } from '@graft/runner/engine/graph/precisions.ts'
import { openOnnxEngine } from '@graft/runner/engine/onnx/onnx-engine.ts'
import { fromHex } from '@graft/sdk/format/digest.ts'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { freshId, logitsOf, type Terms } from './measure.ts'
import { importFolder, readJson, readLogits, worstPosition } from './peer-goldens.ts'
import { writeTinyCheckpoint } from './tiny-checkpoint.ts'

/** What PEFT computed on a base that bitsandbytes held in NF4: fixtures/make-qlora.py. */
const FIXTURES = join(import.meta.dirname, 'fixtures/nf4')
const SAMPLE = join(import.meta.dirname, '../../../infra/samples/base/graft-tiny')
const STORED = join(FIXTURES, 'base-4bit')

let goldens: Map<string, Float32Array>
let facts: { prompts: number[][]; smallPrompts: number[][] }
let adapter: LoadedAdapter
let dora: LoadedAdapter
const engines = new Map<string, Engine>()
const worst: Record<string, unknown> = {}

const open = async (folder: string, precision: Precision): Promise<Engine> => {
  const checkpoint = await readCheckpoint(folder)
  const { digest } = await describeCheckpoint(folder, 'base')
  const engine = await openOnnxEngine({ checkpoint, baseDigest: digest, precision, slots: 2 })
  engines.set(`${folder} ${precision}`, engine)
  return engine
}

beforeAll(async () => {
  goldens = await readLogits(join(FIXTURES, 'goldens.safetensors'))
  facts = await readJson(join(FIXTURES, 'goldens.json'))
  const base = await describeCheckpoint(SAMPLE, 'graft-tiny')
  adapter = await importFolder(join(FIXTURES, 'qlora'), base)
  dora = await importFolder(join(FIXTURES, 'qdora'), base)
})

afterAll(async () => {
  console.log(`against PEFT on bitsandbytes: ${JSON.stringify(worst)}`)
  for (const engine of engines.values()) await engine[Symbol.asyncDispose]()
})

/** Logits of every prompt without and with the adapter, beside PEFT's. */
async function both(engine: Engine) {
  await engine.load(adapter)
  const terms: Terms = [{ digest: adapter.digest, weight: 1 }]
  const pairs = []
  for (const [i, prompt] of facts.prompts.entries())
    pairs.push({
      own: {
        base: await logitsOf(engine, [], prompt),
        adapted: await logitsOf(engine, terms, prompt),
      },
      golden: { base: goldens.get(`base.${i}`)!, adapted: goldens.get(`qlora.${i}`)! },
    })
  return pairs
}

test('nf4-exact gives the logits of PEFT on a base of bitsandbytes, with and without its adapter', async () => {
  const engine = await open(SAMPLE, 'nf4-exact')
  const { vocab } = engine.info
  let most = 0
  for (const { own, golden } of await both(engine)) {
    for (const kind of ['base', 'adapted'] as const)
      most = Math.max(most, worstPosition(own[kind], golden[kind], vocab))
    // An adapter without an effect would prove nothing.
    expect(worstPosition(golden.adapted, golden.base, vocab)).toBeGreaterThan(0.05)
  }
  worst['nf4-exact'] = most
  expect(most).toBeLessThanOrEqual(1e-5)
})

test('a DoRA on nf4-exact divides by the norms that PEFT sees', async () => {
  const engine = engines.get(`${SAMPLE} nf4-exact`)!
  await engine.load(dora)
  let most = 0
  for (const [i, prompt] of facts.prompts.entries()) {
    const own = await logitsOf(engine, [{ digest: dora.digest, weight: 1 }], prompt)
    const golden = goldens.get(`qdora.${i}`)!
    most = Math.max(most, worstPosition(own, golden, engine.info.vocab))
    expect(worstPosition(golden, goldens.get(`base.${i}`)!, engine.info.vocab)).toBeGreaterThan(
      0.05,
    )
  }
  worst['nf4-exact, DoRA'] = most
  expect(most).toBeLessThanOrEqual(1e-5)
})

test('on nf4 the adapter has the effect that PEFT sees on a base of bitsandbytes', async () => {
  const engine = await open(SAMPLE, 'nf4')
  const { vocab } = engine.info
  const deviations = (await both(engine)).map(({ own, golden }) => ({
    ...measure(own, golden),
    top1: agreement(own.adapted, golden.adapted, vocab),
  }))
  worst['nf4'] = deviations
  for (const { base, adapted, effectCosine, effectNormRatio, top1 } of deviations) {
    // The base at full precision is off by 0.17 and 0.22 on these prompts, int4 by 0.24 and 0.25.
    expect(base).toBeLessThan(0.07)
    expect(adapted).toBeLessThan(0.07)
    expect(effectCosine).toBeGreaterThan(0.985)
    expect(Math.abs(effectNormRatio - 1)).toBeLessThan(0.1)
    expect(top1).toBeGreaterThanOrEqual(7 / 8)
  }
})

test.each(['fp32', 'nf4-exact'] as const)(
  'a base that bitsandbytes stored in NF4 gives its logits at %s',
  async (precision) => {
    const engine = await open(STORED, precision)
    for (const [i, prompt] of facts.smallPrompts.entries()) {
      const share = worstPosition(
        await logitsOf(engine, [], prompt),
        goldens.get(`base-4bit.${i}`)!,
        engine.info.vocab,
      )
      worst[`stored ${precision} ${i}`] = share
      expect(share).toBeLessThanOrEqual(1e-5)
    }
  },
)

test.each(['nf4', 'nf4-exact'] as const)(
  'at %s a row is bit-equal whatever its neighbours are',
  async (precision) => {
    const engine = engines.get(`${SAMPLE} ${precision}`)!
    const own: Terms = [{ digest: adapter.digest, weight: 1 }]
    const [prompt] = facts.prompts
    const decode = async (neighbour: Terms, token: number) => {
      const ids = [freshId(), freshId()]
      await engine.open(ids[0]!, own)
      await engine.open(ids[1]!, neighbour)
      const outputs = []
      for (const tokenIds of [prompt!, [9], [60]]) {
        const others = tokenIds.map((id) => (id * token) % engine.info.vocab)
        const { rows } = await engine.step([
          { sequence: ids[0]!, tokenIds, logits: 'last' },
          { sequence: ids[1]!, tokenIds: others, logits: 'last' },
        ])
        outputs.push(Buffer.from(rows[0]!.logits.slice().buffer).toString('hex'))
      }
      for (const id of ids) await engine.close(id)
      return outputs
    }
    expect(await decode([], 7)).toEqual(await decode(own, 13))
  },
)

test('NF4 is refused by name where a row is no whole number of its blocks', async () => {
  const tiny = await writeTinyCheckpoint()
  try {
    const engine = await openOnnxEngine({
      checkpoint: await readCheckpoint(tiny.dir),
      baseDigest: fromHex('0'.repeat(64)),
      precision: 'nf4',
    })
    await expect(logitsOf(engine, [], [1])).rejects.toMatchObject({
      code: 'ERR_ARCHITECTURE_UNSUPPORTED',
      message: 'model.layers.0.down: input size for nf4-planes must be a multiple of 64, got 96',
    })
    await engine[Symbol.asyncDispose]()
  } finally {
    await tiny.remove()
  }
})

/** Share of positions with the same most probable token. */
function agreement(own: Float32Array, golden: Float32Array, vocab: number): number {
  const best = (logits: Float32Array, at: number) => {
    let top = at
    for (let i = at; i < at + vocab; i++) if (logits[i]! > logits[top]!) top = i
    return top
  }
  let same = 0
  for (let at = 0; at < own.length; at += vocab) if (best(own, at) === best(golden, at)) same++
  return same / (own.length / vocab)
}

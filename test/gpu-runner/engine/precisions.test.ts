import { readCheckpoint } from '@graft/runner/checkpoint/read-checkpoint.ts'
import type { Engine } from '@graft/runner/engine/engine.ts'
import { openOnnxEngine } from '@graft/runner/engine/onnx/onnx-engine.ts'
import { openEngine } from '@graft/runner/engine/open-engine.ts'
import { fromHex } from '@graft/sdk/format/digest.ts'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { freshId, logitsOf, type Terms } from './measure.ts'
import { dora, ia3, lowRank, prompt } from './random-adapters.ts'
import { writeTinyCheckpoint } from './tiny-checkpoint.ts'

const BASE = fromHex('b'.repeat(64))
const PRECISIONS = ['fp32', 'int8', 'w8a8', 'int4'] as const
const adapters = [lowRank(1), dora(2), ia3(3), prompt(4)]
const terms: Terms[] = [[], ...adapters.map(({ digest }) => [{ digest, weight: 1 }])]
const PROMPT = [5, 3, 100, 60, 7, 7, 19]

let tiny: Awaited<ReturnType<typeof writeTinyCheckpoint>>
const engines = new Map<string, Engine>()

beforeAll(async () => {
  tiny = await writeTinyCheckpoint()
  const checkpoint = await readCheckpoint(tiny.dir)
  for (const precision of PRECISIONS)
    engines.set(precision, await openOnnxEngine({ checkpoint, baseDigest: BASE, precision }))
  engines.set('thread', await openEngine({ checkpointDir: tiny.dir, baseDigest: BASE }))
  for (const engine of engines.values()) for (const adapter of adapters) await engine.load(adapter)
})
afterAll(async () => {
  for (const engine of engines.values()) await engine[Symbol.asyncDispose]()
  await tiny?.remove()
})

const difference = (a: Float32Array, b: Float32Array) => a.map((value, i) => value - b[i]!)
const dot = (a: Float32Array, b: Float32Array) =>
  a.reduce((sum, value, i) => sum + value * b[i]!, 0)
const bits = (logits: Float32Array) => Buffer.from(logits.slice().buffer).toString('hex')

test.each(['int8', 'w8a8', 'int4'])(
  'an adapter on an %s base has the effect it has in fp32',
  async (name) => {
    const [own, full] = [engines.get(name)!, engines.get('fp32')!]
    expect(own.info).toMatchObject({ precision: name, build: expect.stringContaining(name) })
    const [ownBase, fullBase] = [await logitsOf(own, [], PROMPT), await logitsOf(full, [], PROMPT)]
    // A base that was not quantised at all would pass the rest.
    expect(bits(ownBase)).not.toBe(bits(fullBase))
    const low = terms[1]!
    const a = difference(await logitsOf(own, low, PROMPT), ownBase)
    const b = difference(await logitsOf(full, low, PROMPT), fullBase)
    expect(dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b))).toBeGreaterThan(
      name === 'int4' ? 0.9 : 0.99,
    )
  },
)

test.each(PRECISIONS)('at %s a row is bit-equal whatever its neighbours are', async (name) => {
  const engine = engines.get(name)!
  const decode = async (rows: Terms[]) => {
    const ids = rows.map(() => freshId())
    for (const [i, id] of ids.entries()) await engine.open(id, rows[i]!)
    const outputs = []
    for (const [t, tokenIds] of [PROMPT, [9], [60]].entries()) {
      const { rows: got } = await engine.step(
        // The neighbours read other tokens, so that shared activation scales would show.
        ids.map((sequence, i) => ({
          sequence,
          tokenIds: i === 0 ? tokenIds : tokenIds.map((id) => (id * 7 + i + t) % 128),
          logits: 'last',
        })),
      )
      outputs.push(bits(got[0]!.logits))
    }
    for (const id of ids) await engine.close(id)
    return outputs
  }
  for (const own of [terms[0]!, terms[1]!])
    expect(await decode([own, terms[1]!, terms[2]!, terms[3]!])).toEqual(
      await decode([own, [], [], []]),
    )
})

test('in its thread the engine gives the same bits, and errors keep their code', async () => {
  const [thread, own] = [engines.get('thread')!, engines.get('fp32')!]
  expect(thread.info).toEqual(own.info)
  for (const term of terms)
    expect(bits(await logitsOf(thread, term, PROMPT))).toBe(bits(await logitsOf(own, term, PROMPT)))
  await expect(thread.open(freshId(), [{ digest: BASE, weight: 1 }])).rejects.toMatchObject({
    code: 'ERR_MODEL_UNKNOWN',
    message: expect.stringContaining(BASE),
  })
  await expect(
    thread.open(freshId(), [{ digest: adapters[3]!.digest, weight: 0.5 }]),
  ).rejects.toMatchObject({ code: 'ERR_NOT_COMPOSABLE' })
})

test('adapters come and go in the thread while it steps, and no row changes', async () => {
  const thread = engines.get('thread')!
  const quiet = bits(await logitsOf(thread, terms[1]!, PROMPT))
  const others = [lowRank(31), dora(32), lowRank(33, 9)]
  const [answers] = await Promise.all([
    Promise.all(Array.from({ length: 6 }, () => logitsOf(thread, terms[1]!, PROMPT))),
    Promise.all(others.map((adapter) => thread.load(adapter))),
  ])
  expect(answers.map(bits)).toEqual(answers.map(() => quiet))
  for (const { digest } of others) await thread.unload(digest)
})

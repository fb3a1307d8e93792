import { readCheckpoint } from '@graft/runner/checkpoint/read-checkpoint.ts'
import type { Engine, LoadedAdapter } from '@graft/runner/engine/engine.ts'
import { reachable, widest } from '@graft/runner/engine/graph/variants.ts'
import { openOnnxEngine } from '@graft/runner/engine/onnx/onnx-engine.ts'
import { fromHex } from '@graft/sdk/format/digest.ts'
import { afterAll, describe, expect, test } from 'vitest'
import { randomBottleneck, randomLora } from '../../bench/random-adapters.ts'
import { randomBase } from '../../bench/random-base.ts'
import { openRandomEngine } from '../../bench/random-engine.ts'
import { SHAPES } from '../../bench/shapes.ts'
import { freshId, type Terms } from './measure.ts'
import { bottleneck, dora, head, ia3, lowRank, prompt } from './random-adapters.ts'
import { writeTinyCheckpoint } from './tiny-checkpoint.ts'

const tiny = await writeTinyCheckpoint()
const checkpoint = await readCheckpoint(tiny.dir)
afterAll(() => tiny.remove())

async function openWith(adapters: LoadedAdapter[]): Promise<Engine> {
  const engine = await openOnnxEngine({ checkpoint, baseDigest: fromHex('b'.repeat(64)) })
  for (const adapter of adapters) await engine.load(adapter)
  return engine
}

const alone = ({ digest }: LoadedAdapter): Terms => [{ digest, weight: 1 }]
const PROMPT = [5, 3, 100, 60, 7, 7, 19, 127, 0, 42, 11, 2, 9]
/** Tokens of each step: chunks of a prompt, one of them a single token, then an answer. */
const STEPS = [PROMPT.slice(0, 5), PROMPT.slice(5, 6), PROMPT.slice(6), [17], [60], [3]]

/** Bits of all logits of the first row, step by step; its neighbours get the same tokens. */
async function bits(
  engine: Engine,
  row: Terms,
  neighbours: Terms[] = [],
  chunks = STEPS,
): Promise<string[]> {
  const ids = [row, ...neighbours].map(() => freshId())
  for (const [i, terms] of [row, ...neighbours].entries()) await engine.open(ids[i]!, terms)
  const steps: string[] = []
  for (const tokenIds of chunks) {
    const { rows } = await engine.step(
      ids.map((sequence) => ({ sequence, tokenIds, logits: 'all' as const })),
    )
    steps.push(Buffer.from(rows[0]!.logits.slice().buffer).toString('hex'))
  }
  for (const id of ids) await engine.close(id)
  return steps
}

/** LoRA on one linear of each block alone. */
function partial(seed: number): LoadedAdapter {
  const adapter = lowRank(seed)
  return { ...adapter, operations: adapter.operations.filter(({ site }) => /v_proj/.test(site)) }
}

const others = [lowRank(1), lowRank(2, 40), dora(3), ia3(4), prompt(14), head(15)]

describe('a row whose adapter is a bottleneck', () => {
  const narrow = bottleneck(5, 'relu', ['ffn'], { originalLnBefore: true })
  const wide = bottleneck(6, 'relu', undefined, { reduced: 120 })
  const odd = bottleneck(7, 'sigmoid', undefined, { originalLnBefore: false })
  const linear = bottleneck(8, 'linear', ['parallel_ffn'])
  const all = [narrow, wide, odd, linear]

  test.each([
    ['narrow', narrow],
    ['wide', wide],
    ['of another activation', odd],
    ['parallel', linear],
  ])('has the same bits alone and beside every other method: %s', async (_, own) => {
    await using few = await openWith([own])
    const expected = await bits(few, alone(own))
    await using many = await openWith([...all, ...others])
    for (const neighbours of [
      [],
      [[]],
      [alone(own), alone(own)],
      all.map(alone),
      ...others.map((other) => [alone(other)]),
      [...all, ...others].map(alone),
    ])
      expect(await bits(many, alone(own), neighbours)).toEqual(expected)
  })
})

test('the widest variant carries what every row asks for and no more', () => {
  expect(widest([])).toBe('base')
  expect(widest(['base', 'low_rank'])).toBe('low_rank')
  expect(widest(['bottleneck', 'base', 'bottleneck'])).toBe('bottleneck')
  expect(widest(['low_rank', 'bottleneck'])).toBe('rich')
  expect(widest(['low_rank', 'full'])).toBe('full')
  expect(reachable(['low_rank', 'bottleneck'])).toEqual(['low_rank', 'bottleneck', 'rich'])
})

describe('a row whose adapter is LoRA', () => {
  const stranger = lowRank(90, 3)
  /** Ranks of the linears go up to twice this. */
  test.each([1, 4, 8, 16, 20, 32, 40, 64, 80, 130])(
    'has the same bits alone and beside others, ranks about %i',
    async (rank) => {
      const own = lowRank(50 + rank, rank, 0.2 / Math.sqrt(rank))
      await using engine = await openWith([own, stranger, ...others])
      const expected = await bits(engine, alone(own))
      for (const neighbours of [[[]], [alone(own)], [alone(stranger)], others.map(alone)])
        expect(await bits(engine, alone(own), neighbours)).toEqual(expected)
    },
  )
})

test('LoRA on some of the linears has the same bits before and after LoRA on all was loaded', async () => {
  const own = partial(70)
  await using few = await openWith([own])
  const expected = await bits(few, alone(own))
  await using many = await openWith([own, ...others])
  expect(await bits(many, alone(own))).toEqual(expected)
  expect(await bits(many, alone(own), others.map(alone))).toEqual(expected)
})

test('bits are the same at the width of a real model on two threads, for chunks of any length', async () => {
  const wide = randomBase('wide', { ...SHAPES['135m'], layers: 1, vocab: 512 })
  await using engine = await openRandomEngine(wide, { slots: 4, threads: 2 })
  const [narrow, broad, other] = [
    randomLora(1, wide.config),
    randomLora(2, wide.config, 40),
  ].concat(randomBottleneck(3, wide.config))
  for (const adapter of [narrow!, broad!, other!]) await engine.load(adapter)
  // onnxruntime deals the columns of a product to its threads while they are more than the rows.
  const steps = [7, 20, 33, 64, 3, 2, 1].map((length) =>
    Array.from({ length }, (_, i) => (i * 37) % 512),
  )
  for (const own of [narrow!, broad!, other!]) {
    const expected = await bits(engine, alone(own), [], steps)
    for (const neighbours of [[[]], [alone(own)], [alone(narrow!), alone(broad!), alone(other!)]])
      expect(await bits(engine, alone(own), neighbours, steps)).toEqual(expected)
  }
})

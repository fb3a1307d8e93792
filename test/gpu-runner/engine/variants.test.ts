import { readCheckpoint } from '@graft/runner/checkpoint/read-checkpoint.ts'
import type { Engine, LoadedAdapter } from '@graft/runner/engine/engine.ts'
import { reachable, widest } from '@graft/runner/engine/graph/variants.ts'
import { openOnnxEngine } from '@graft/runner/engine/onnx/onnx-engine.ts'
import { fromHex } from '@graft/sdk/format/digest.ts'
import { afterAll, describe, expect, test } from 'vitest'
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
async function bits(engine: Engine, row: Terms, neighbours: Terms[] = []): Promise<string[]> {
  const ids = [row, ...neighbours].map(() => freshId())
  for (const [i, terms] of [row, ...neighbours].entries()) await engine.open(ids[i]!, terms)
  const steps: string[] = []
  for (const tokenIds of STEPS) {
    const { rows } = await engine.step(
      ids.map((sequence) => ({ sequence, tokenIds, logits: 'all' as const })),
    )
    steps.push(Buffer.from(rows[0]!.logits.slice().buffer).toString('hex'))
  }
  for (const id of ids) await engine.close(id)
  return steps
}

const others = [lowRank(1), lowRank(2, 40), dora(3), ia3(4), prompt(14), head(15)]

describe('a row whose adapter is a bottleneck', () => {
  const narrow = bottleneck(5, 'relu', ['ffn'], { originalLnBefore: true })
  const wide = bottleneck(6, 'relu', undefined, { reduced: 50 })
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

import type { Engine } from '@graft/runner/engine/engine.ts'
import { fromHex } from '@graft/sdk/format/digest.ts'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { freshId, type Terms } from './measure.ts'
import { lowRank, prefix, prompt } from './random-adapters.ts'
import { TINY } from './tiny-checkpoint.ts'

export const BLOCK = 16
const TOKENS = Array.from({ length: 70 }, (_, t) => (t * 37 + 5) % TINY.vocab)
export const KEYS = ['a', 'ab', 'abc', 'abcd']
/** Of one block on the tiny base: 2 layers, K and V, 2 key heads, 16 values of 4 bytes a row. */
const BLOCK_BYTES = 2 * 2 * 2 * BLOCK * 16 * 4

const adapters = [lowRank(1), prefix(13), prompt(14)]
type Open = (options: { prefixBudgetBytes?: number }) => Promise<Engine>

const bits = (logits: Float32Array): string => Buffer.from(logits.slice().buffer).toString('hex')

/** Feeds the prompt in chunks that end where blocks do, then decodes. @returns what was cached and the bits after it */
export async function answer(on: Engine, terms: Terms, keys?: string[], tokens = TOKENS) {
  const id = freshId()
  const { cachedTokens } = await on.open(id, terms, keys && { keys, block: BLOCK })
  const outputs: string[] = []
  const feed = async (tokenIds: number[]) => {
    const { rows } = await on.step([{ sequence: id, tokenIds, logits: 'all' }])
    outputs.push(bits(rows[0]!.logits))
  }
  for (let at = cachedTokens; at < tokens.length; at += BLOCK)
    await feed(tokens.slice(at, at + BLOCK))
  for (const token of [9, 60, 3]) await feed([token])
  await on.close(id)
  return { cachedTokens, outputs }
}

/** What an engine promises of blocks that prompts share, run over the one that `openNew` gives. */
export function promptBlocksContract(name: string, openNew: Open): void {
  const open: Open = async (options) => {
    const created = await openNew(options)
    for (const each of adapters) await created.load(each)
    return created
  }

  describe(`blocks of prompts on the ${name} engine`, () => {
    let engine: Engine
    beforeAll(async () => {
      engine = await open({})
    })
    afterAll(() => engine?.[Symbol.asyncDispose]())

    test.each([
      ['the base', []],
      ['a LoRA', [{ digest: adapters[0]!.digest, weight: 1 }]],
      ['a prefix', [{ digest: adapters[1]!.digest, weight: 1 }]],
      ['a prompt', [{ digest: adapters[2]!.digest, weight: 1 }]],
    ])(
      'a row of %s goes on from stored blocks with the bits it has without them',
      async (name, terms) => {
        const keys = KEYS.map((key) => `${name} ${key}`)
        const plain = await answer(engine, terms)
        expect(await answer(engine, terms, keys)).toEqual(plain)
        const again = await answer(engine, terms, keys)
        expect(again.cachedTokens).toBe(4 * BLOCK)
        expect(again.outputs).toEqual(plain.outputs.slice(4))
        // A prompt that shares two blocks takes these two.
        const other = [...TOKENS.slice(0, 2 * BLOCK), ...TOKENS.slice(0, 20)]
        const fork = await answer(engine, terms, [...keys.slice(0, 2), `${name} x`], other)
        expect(fork.cachedTokens).toBe(2 * BLOCK)
        expect(fork.outputs).toEqual(
          (await answer(engine, terms, undefined, other)).outputs.slice(2),
        )
      },
    )

    test('blocks are kept within the budget, the least recently used go first', async () => {
      const small = await open({ prefixBudgetBytes: 5 * BLOCK_BYTES })
      const cached = async (name: string, count: number) =>
        (
          await answer(
            small,
            [],
            KEYS.slice(0, count).map((key) => `${name} ${key}`),
          )
        ).cachedTokens
      expect(await cached('one', 3)).toBe(0)
      expect(await cached('two', 2)).toBe(0)
      expect(await cached('one', 3)).toBe(3 * BLOCK)
      // Two more blocks push out those of `two`, which were used before those of `one`.
      expect(await cached('three', 2)).toBe(0)
      expect(await cached('one', 3)).toBe(3 * BLOCK)
      expect(await cached('two', 2)).toBe(0)
      await small[Symbol.asyncDispose]()
      const none = await open({ prefixBudgetBytes: 0 })
      for (let round = 0; round < 2; round++)
        expect((await answer(none, [], KEYS)).cachedTokens).toBe(0)
      await none[Symbol.asyncDispose]()
    })

    test('a sequence whose values overflow leaves no blocks behind', async () => {
      const hostile = { ...lowRank(71), digest: fromHex('e'.repeat(64)) }
      hostile.tensors = new Map(
        [...hostile.tensors].map(([name, { shape, data }]) => [
          name,
          { shape, data: data.map((x) => Math.sign(x) * 3e37) },
        ]),
      )
      await engine.load(hostile)
      const terms = [{ digest: hostile.digest, weight: 1 }]
      for (let round = 0; round < 2; round++) {
        const id = freshId()
        const prefix = { keys: ['hostile'], block: BLOCK }
        expect(await engine.open(id, terms, prefix)).toEqual({ cachedTokens: 0 })
        const { rows } = await engine.step([
          { sequence: id, tokenIds: TOKENS.slice(0, 20), logits: 'none' },
        ])
        expect(rows[0]!.finite).toBe(false)
        await engine.close(id)
      }
    })
  })
}

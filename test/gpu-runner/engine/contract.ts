import type { Engine } from '@graft/runner/engine/engine.ts'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { freshId, logitsOf, type Terms, worstShare } from './measure.ts'
import { bottleneck, ia3, lowRank, ownTensors, prefix, prompt } from './random-adapters.ts'
import { TINY } from './tiny-checkpoint.ts'

type Open = (options: { slots?: number; bankBudgetBytes?: number }) => Promise<Engine>

const { vocab, maxPositions } = TINY
const TOKENS = [5, 3, 100, 60, 7, 7, 19, 127, 0, 42]
const [lora, other, scales, adapter, past, virtual, gated] = [
  lowRank(1),
  lowRank(2),
  ia3(4),
  bottleneck(5, 'relu'),
  prefix(13),
  prompt(14),
  bottleneck(21, 'tanh', undefined, { norms: ['lnAfter'], gated: true }),
]
/** What replaces something has no delta to add. */
const replaced = (['norms', 'linears', 'head rows'] as const).map((part, i) =>
  ownTensors(40 + i, [part]),
)
const alone = ({ digest }: { digest: typeof lora.digest }): Terms => [{ digest, weight: 1 }]
const code = (name: string) => expect.objectContaining({ code: name })

/** What every engine promises, run over the one that `open` gives. */
export function engineContract(name: string, openNew: Open): void {
  describe(`the ${name} engine`, () => {
    let engine: Engine
    beforeAll(async () => {
      engine = await openNew({})
      for (const each of [lora, other, scales, adapter, past, virtual, gated])
        await engine.load(each)
    })
    afterAll(() => engine?.[Symbol.asyncDispose]())

    const step = async (sequence: number, tokenIds: number[], logits: 'none' | 'last' | 'all') =>
      (await engine.step([{ sequence, tokenIds, logits }])).rows[0]!

    test.each([
      ['the base', []],
      ['an adapter', alone(lora)],
      ['a prefix', alone(past)],
      ['a prompt', alone(virtual)],
    ])('prefill at once, in chunks and token by token agree for %s', async (_, terms) => {
      const whole = await logitsOf(engine, terms, TOKENS)
      expect(whole).toHaveLength(TOKENS.length * vocab)
      for (const size of [1, 3, 9]) {
        const id = freshId()
        await engine.open(id, terms)
        const parts: number[] = []
        for (let at = 0; at < TOKENS.length; at += size)
          parts.push(...(await step(id, TOKENS.slice(at, at + size), 'all')).logits)
        await engine.close(id)
        expect(worstShare(Float32Array.from(parts), whole)).toBeLessThan(1e-5)
      }
    })

    test('gives the logits asked for: all positions, the last one, none', async () => {
      const whole = await logitsOf(engine, alone(lora), TOKENS)
      const [last, none] = [freshId(), freshId()]
      for (const id of [last, none]) await engine.open(id, alone(lora))
      const { rows, ms } = await engine.step([
        { sequence: last, tokenIds: TOKENS, logits: 'last' },
        { sequence: none, tokenIds: TOKENS, logits: 'none' },
      ])
      for (const id of [last, none]) await engine.close(id)
      expect(ms).toBeGreaterThan(0)
      expect(rows.map(({ sequence }) => sequence)).toEqual([last, none])
      expect(rows.map(({ finite }) => finite)).toEqual([true, true])
      expect(rows[1]!.logits).toHaveLength(0)
      expect(rows[0]!.logits).toHaveLength(vocab)
      expect(worstShare(rows[0]!.logits, whole.subarray(-vocab))).toBeLessThan(1e-5)
    })

    test('rows of uneven length in one step answer as they do alone', async () => {
      const rows: [Terms, number[]][] = [
        [[], TOKENS],
        [alone(lora), [9]],
        [alone(scales), [8, 1, 60]],
        [[], [77]],
        [alone(virtual), [12]],
      ]
      const ids = rows.map(() => freshId())
      for (const [i, [terms]] of rows.entries()) await engine.open(ids[i]!, terms)
      const together = await engine.step(
        rows.map(([, tokenIds], i) => ({ sequence: ids[i]!, tokenIds, logits: 'all' })),
      )
      for (const id of ids) await engine.close(id)
      for (const [i, [terms, tokens]] of rows.entries())
        expect(
          worstShare(together.rows[i]!.logits, await logitsOf(engine, terms, tokens)),
        ).toBeLessThan(1e-5)
    })

    test('a prompt whose adapter is gated is one call, however it is cut', async () => {
      const [id, parts] = [freshId(), [TOKENS.slice(0, 3), TOKENS.slice(3, 7), TOKENS.slice(7)]]
      const whole = await logitsOf(engine, alone(gated), TOKENS)
      const first = await logitsOf(engine, alone(gated), parts[0]!)
      expect(worstShare(first, whole.subarray(0, first.length))).toBeGreaterThan(1e-3)
      await engine.open(id, alone(gated))
      for (const part of parts.slice(0, 2))
        expect(await step(id, part, 'none')).toEqual({
          sequence: id,
          logits: new Float32Array(0),
          finite: true,
        })
      const { logits } = await step(id, parts[2]!, 'all')
      expect(worstShare(logits, whole.subarray(-parts[2]!.length * vocab))).toBeLessThan(1e-5)
      // After the prompt each token is a call of its own.
      const next = (await step(id, [77], 'last')).logits
      await engine.close(id)
      expect(
        worstShare(next, (await logitsOf(engine, alone(gated), [...TOKENS, 77])).subarray(-vocab)),
      ).toBeGreaterThan(1e-4)
    })

    test('a row goes on as before once the adapters of its neighbours have left', async () => {
      const whole = await logitsOf(engine, alone(lora), TOKENS)
      const [first, second, stays] = [freshId(), freshId(), freshId()]
      await engine.open(first, alone(other))
      await engine.open(second, alone(adapter))
      await engine.open(stays, alone(lora))
      await engine.step(
        [first, second, stays].map((sequence) => ({
          sequence,
          tokenIds: TOKENS.slice(0, 5),
          logits: 'none',
        })),
      )
      for (const [at, leaving] of [first, second].entries()) {
        await engine.close(leaving)
        expect(
          worstShare(
            (await step(stays, [TOKENS[5 + at]!], 'last')).logits,
            whole.subarray((5 + at) * vocab, (6 + at) * vocab),
          ),
        ).toBeLessThan(1e-5)
      }
      await engine.close(stays)
    })

    test('the past survives growth of the cache, and the last position is the limit', async () => {
      const long = Array.from({ length: maxPositions }, (_, t) => (t * 37) % vocab)
      const whole = await logitsOf(engine, [], long)
      const id = freshId()
      await engine.open(id, [])
      await step(id, long.slice(0, 62), 'none')
      for (const t of [62, 63, 64, 65])
        expect(
          worstShare(
            (await step(id, [long[t]!], 'last')).logits,
            whole.subarray(t * vocab, (t + 1) * vocab),
          ),
        ).toBeLessThan(1e-5)
      await step(id, long.slice(66), 'none')
      await expect(step(id, [1], 'last')).rejects.toEqual(code('ERR_PROMPT_TOO_LONG'))
      await engine.close(id)
    })

    test('a closed slot serves its next owner as a new one would', async () => {
      const tight = await openNew({ slots: 1 })
      await tight.load(lora)
      const first = await logitsOf(tight, [], TOKENS)
      await logitsOf(tight, alone(lora), [9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9])
      expect(await logitsOf(tight, [], TOKENS)).toEqual(first)
      await tight.open(1, [])
      await expect(tight.open(2, [])).rejects.toEqual(code('ERR_OVERLOADED'))
      await tight.close(1)
      await tight.open(2, [])
      await tight[Symbol.asyncDispose]()
    })

    test('refuses an adapter that the bank has no room for, and takes it once another left', async () => {
      const { bytes } = await engine.load(lora)
      expect(bytes).toBeGreaterThan(0)
      const small = await openNew({ bankBudgetBytes: Math.ceil(bytes * 1.5) })
      await small.load(lora)
      await expect(small.load(other)).rejects.toEqual(code('ERR_BANK_FULL'))
      await small.unload(lora.digest)
      await small.load(other)
      await expect(small.open(1, alone(lora))).rejects.toEqual(code('ERR_MODEL_UNKNOWN'))
      await small[Symbol.asyncDispose]()
    })

    test('keeps an adapter that an open sequence uses', async () => {
      const [a, b] = [freshId(), freshId()]
      for (const id of [a, b]) await engine.open(id, alone(other))
      await engine.close(a)
      await expect(engine.unload(other.digest)).rejects.toEqual(code('ERR_BANK_FULL'))
      await engine.close(b)
      await engine.unload(other.digest)
      await engine.load(other)
    })

    test('sums what is a sum of deltas and refuses what is not', async () => {
      const id = freshId()
      for (const each of replaced) await engine.load(each)
      for (const terms of [
        ...replaced.flatMap((each) => [
          [{ digest: each.digest, weight: 0.5 }],
          [...alone(lora), ...alone(each)],
        ]),
        [{ digest: adapter.digest, weight: 0.5 }],
        [...alone(lora), ...alone(past)],
        [...alone(virtual), ...alone(lora)],
      ])
        await expect(engine.open(id, terms)).rejects.toEqual(code('ERR_NOT_COMPOSABLE'))
      await engine.open(id, [...alone(lora), { digest: scales.digest, weight: 0.5 }])
      await engine.close(id)
      const nothing = await logitsOf(engine, [{ digest: lora.digest, weight: 0 }], TOKENS)
      expect(worstShare(nothing, await logitsOf(engine, [], TOKENS))).toBeLessThan(1e-5)
    })

    test('a prompt whose blocks may be stored gives the logits of a prompt that was never seen', async () => {
      const tokens = Array.from({ length: 40 }, (_, t) => (t * 29) % vocab)
      const cases: [string, Terms][] = [
        ['base', []],
        ['lora', alone(lora)],
        ['prefix', alone(past)],
        ['prompt', alone(virtual)],
      ]
      for (const [name, terms] of cases) {
        const whole = await logitsOf(engine, terms, tokens)
        const prefix = { keys: [`${name} 0`, `${name} 1`], block: 16 }
        for (const round of ['first', 'second']) {
          const id = freshId()
          const { cachedTokens } = await engine.open(id, terms, prefix)
          if (round === 'first') expect(cachedTokens).toBe(0)
          expect([0, 16, 32]).toContain(cachedTokens)
          const { logits } = await step(id, tokens.slice(cachedTokens), 'all')
          await engine.close(id)
          expect(worstShare(logits, whole.subarray(cachedTokens * vocab))).toBeLessThan(1e-5)
        }
      }
    })

    test('refuses operations that cannot stand in a batch', async () => {
      const dense = { ...lora, digest: past.digest.replace(/d$/, 'e') as typeof lora.digest }
      const site = 'model.layers.0.self_attn.q_proj'
      dense.operations = [
        { op: 'dense', form: 'matrix', site, in: 64, out: 64, slots: { dW: `${site}.A` } },
      ]
      await expect(engine.load(dense)).rejects.toEqual(code('ERR_OPERATION_UNSUPPORTED'))
    })

    test('refuses unknown tokens and sequences', async () => {
      const id = freshId()
      await engine.open(id, [])
      await expect(step(id, [vocab], 'last')).rejects.toEqual(code('ERR_REQUEST_INVALID'))
      await expect(step(id, [], 'last')).rejects.toEqual(code('ERR_INTERNAL'))
      await engine.close(id)
      await expect(step(id, [1], 'last')).rejects.toEqual(code('ERR_INTERNAL'))
    })
  })
}

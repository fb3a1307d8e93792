import type { Engine, LoadedAdapter } from '@graft/runner/engine/engine.ts'
import { fromHex } from '@graft/sdk/format/digest.ts'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { freshId, type Terms } from './measure.ts'
import { bottleneck, dora, everyOperation, lowRank, ownTensors } from './random-adapters.ts'
import { TINY } from './tiny-checkpoint.ts'

const ROWS = 4
const ordinary = Object.values(everyOperation())

/** Finite weights whose products overflow f32. */
const blownUp = (adapter: LoadedAdapter, seed: number, names: RegExp): LoadedAdapter => ({
  ...adapter,
  digest: fromHex(seed.toString(16).padStart(64, '0')),
  tensors: new Map(
    [...adapter.tensors].map(([name, { shape, data }]) => [
      name,
      { shape, data: names.test(name) ? data.map((x) => Math.sign(x) * 3e37) : data },
    ]),
  ),
})
/**
 * Outputs of one linear that are NaN at one place between finite ones: two of its rank rows overflow with opposite signs.
 * Maxima pass over such a value, and a byte cannot hold it.
 */
function oneNaN(seed: number, name: string): LoadedAdapter {
  const adapter = lowRank(seed)
  const operation = adapter.operations.find(({ site }) => site === `model.layers.0.${name}`)!
  if (operation.op !== 'low_rank') throw new TypeError(name)
  const { in: inner, out, slots } = operation
  const only = { ...operation, rank: 2, scale: '1' }
  const a = Float32Array.from({ length: 2 * inner }, (_, i) => 1e3 * ((i % inner) + 1))
  const b = new Float32Array(2 * out)
  b.set([3e38, -3e38], 2 * Math.floor(out / 2))
  return {
    digest: adapter.digest,
    operations: [only],
    tensors: new Map([
      [slots.A, { shape: [2, inner], data: a }],
      [slots.B, { shape: [out, 2], data: b }],
    ]),
  }
}

const hostile = [
  blownUp(lowRank(71), 0xdead1, /\.[AB]$/),
  blownUp(bottleneck(72, 'relu'), 0xdead2, /\.(downW|upW)$/),
  blownUp(ownTensors(73, ['norms', 'linears', 'bias']), 0xdead3, /\.(own|Bbias)$/),
  blownUp(bottleneck(74, 'relu', undefined, { norms: ['lnAfter'] }), 0xdead4, /\.(lnAfterW|upW)$/),
  ...['q_proj', 'v_proj', 'o_proj'].map((name, i) => oneNaN(75 + i, `self_attn.${name}`)),
  ...['gate_proj', 'up_proj', 'down_proj'].map((name, i) => oneNaN(78 + i, `mlp.${name}`)),
]

const alone = ({ digest }: LoadedAdapter): Terms => [{ digest, weight: 1 }]

/** Opens the rows in order, runs prompts, then decode steps together. @returns results of each row by step */
async function decode(on: Engine, rows: Terms[], steps = 3) {
  const ids = rows.map(() => freshId())
  for (const [i, id] of ids.entries()) await on.open(id, rows[i]!)
  const results = rows.map((): { logits: Float32Array; finite: boolean }[] => [])
  for (let t = 0; t <= steps; t++) {
    const tokens = t === 0 ? [3, 60, 7] : [(t * 17) % TINY.vocab]
    const { rows: got } = await on.step(
      ids.map((sequence) => ({ sequence, tokenIds: tokens, logits: 'last' })),
    )
    for (const [i, { logits, finite }] of got.entries()) results[i]!.push({ logits, finite })
  }
  for (const id of ids) await on.close(id)
  return results
}

const bits = (logits: Float32Array): string => Buffer.from(logits.slice().buffer).toString('hex')

type Open = (options: { slots: number }) => Promise<Engine>

/** What a stranger's adapter in the batch must not change, run over the engine that `open` gives. */
export function isolationContract(name: string, open: Open): void {
  const openLoaded = async (): Promise<Engine> => {
    const created = await open({ slots: ROWS })
    for (const adapter of [...ordinary, ...hostile]) await created.load(adapter)
    return created
  }

  describe(`rows of the ${name} engine`, () => {
    let engine: Engine
    beforeAll(async () => {
      engine = await openLoaded()
    })
    afterAll(() => engine?.[Symbol.asyncDispose]())

    test('a row is bit-equal whatever adapters its neighbours in the decode batch use', async () => {
      const choice = fc.constantFrom<Terms>([], ...ordinary.map(alone), ...hostile.map(alone), [
        { digest: lowRank(1).digest, weight: 0.6 },
        { digest: dora(3).digest, weight: 0.4 },
      ])
      const own = fc.constantFrom<Terms>([], ...ordinary.map(alone))
      const neighbours = fc.array(choice, { minLength: ROWS - 1, maxLength: ROWS - 1 })
      await fc.assert(
        fc.asyncProperty(own, neighbours, fc.nat(ROWS - 1), async (mine, others, at) => {
          const quiet = Array.from({ length: ROWS }, (): Terms => [])
          const crowd = others.toSpliced(at, 0, mine)
          const lonely = (await decode(engine, quiet.with(at, mine)))[at]!
          const crowded = (await decode(engine, crowd))[at]!
          for (const [t, { logits, finite }] of crowded.entries()) {
            expect(finite).toBe(true)
            expect(bits(logits)).toBe(bits(lonely[t]!.logits))
          }
        }),
        { numRuns: 8, seed: 20, endOnFailure: true },
      )
    })

    test('only the hostile row is reported as not finite', async () => {
      for (const adapter of hostile) {
        const rows = await decode(engine, [[], alone(adapter), alone(ordinary[0]!)])
        expect(rows.map((steps) => steps.map(({ finite }) => finite))).toEqual([
          [true, true, true, true],
          [false, false, false, false],
          [true, true, true, true],
        ])
      }
    })

    test.each([
      ['after an answer', 'last'],
      ['after a prompt chunk whose logits nobody asked for', 'none'],
    ] as const)('a slot that a hostile adapter leaves %s is as good as new', async (_, logits) => {
      const fresh = await openLoaded()
      const expected = await decode(fresh, [[], alone(ordinary[0]!)])
      await fresh[Symbol.asyncDispose]()
      for (const adapter of hostile) {
        const id = freshId()
        await engine.open(id, alone(adapter))
        const { rows } = await engine.step([{ sequence: id, tokenIds: [1, 2, 3, 4, 5, 6], logits }])
        expect(rows[0]!.finite).toBe(false)
        await engine.close(id)
        const again = await decode(engine, [[], alone(ordinary[0]!)])
        for (const [b, steps] of again.entries())
          for (const [t, { logits: own, finite }] of steps.entries()) {
            expect(finite).toBe(true)
            expect(bits(own)).toBe(bits(expected[b]![t]!.logits))
          }
      }
    })
  })
}

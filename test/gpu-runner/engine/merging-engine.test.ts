import type { Engine, LoadedAdapter, StepRow } from '@graft/runner/engine/engine.ts'
import {
  createMergingEngine,
  type MergingEngine,
  type StepSample,
} from '@graft/runner/engine/merged/merging-engine.ts'
import { openMergedEngine } from '@graft/runner/engine/merged/open-merged.ts'
import { openEngine } from '@graft/runner/engine/open-engine.ts'
import { fromHex } from '@graft/sdk/format/digest.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { freshId, logitsOf, type Terms, worstShare } from './measure.ts'
import { bottleneck, dora, ia3, lowRank, prompt } from './random-adapters.ts'
import { writeTinyCheckpoint } from './tiny-checkpoint.ts'

const BASE = fromHex('b'.repeat(64))
const PROMPT = [5, 3, 100, 60, 7, 7, 19]
const FORM = 1_000
const SLOTS = 8

const hot = lowRank(1)
const other = dora(2)
const virtual = prompt(3)
const alone = ({ digest }: LoadedAdapter): Terms => [{ digest, weight: 1 }]
const bits = (logits: Float32Array) => Buffer.from(logits.slice().buffer).toString('hex')
const proven = async () => {}

let tiny: Awaited<ReturnType<typeof writeTinyCheckpoint>>
let base: Engine
let engine: MergingEngine
/** Merged engines that were opened and not yet disposed. */
let live: number
let samples: StepSample[]

beforeEach(async () => {
  tiny = await writeTinyCheckpoint()
  const options = { checkpointDir: tiny.dir, baseDigest: BASE, precision: 'fp32' as const }
  base = await openEngine({ ...options, slots: SLOTS })
  live = 0
  samples = []
  engine = createMergingEngine({
    base,
    formBytes: FORM,
    budgetBytes: 2 * FORM,
    onStep: (sample) => samples.push(sample),
    async openMerged(adapter) {
      const merged = await openMergedEngine({ ...options, slots: SLOTS }, adapter)
      live++
      return {
        ...merged,
        async [Symbol.asyncDispose]() {
          live--
          await merged[Symbol.asyncDispose]()
        },
      }
    },
  })
  for (const adapter of [hot, other, virtual]) await engine.load(adapter)
})
afterEach(async () => {
  await engine[Symbol.asyncDispose]()
  expect(live).toBe(0)
  await tiny.remove()
})

/** Opens a sequence and reads the prompt. */
async function begin(terms: Terms) {
  const id = freshId()
  const { merged } = await engine.open(id, terms)
  const { rows } = await engine.step([{ sequence: id, tokenIds: PROMPT, logits: 'last' }])
  return { id, merged, logits: rows[0]!.logits }
}
const decode = async (ids: number[], token = 9) => {
  const { rows } = await engine.step(
    ids.map((sequence): StepRow => ({ sequence, tokenIds: [token], logits: 'last' })),
  )
  return rows
}

describe('a merged adapter', () => {
  test('takes new sequences that name it alone with weight 1, and nothing else', async () => {
    const banked = await logitsOf(engine, alone(hot), PROMPT)
    await engine.merge(hot, proven)
    const merged = await logitsOf(engine, alone(hot), PROMPT)
    // Other sums of the same numbers: close, and not the same bits, or the wrong engine ran it.
    expect(worstShare(merged, banked)).toBeLessThan(1e-4)
    expect(bits(merged)).not.toBe(bits(banked))
    const cases: [Terms, boolean][] = [
      [alone(hot), true],
      [[], false],
      [alone(other), false],
      [alone(virtual), false],
      [[{ digest: hot.digest, weight: 0.5 }], false],
      [[...alone(hot), ...alone(other)], false],
    ]
    for (const [terms, expected] of cases) {
      const { id, merged: is } = await begin(terms)
      expect([terms, is]).toEqual([terms, expected])
      await engine.close(id)
    }
  })

  test('keeps sequences where they were opened, through merge and unmerge', async () => {
    const before = await begin(alone(hot))
    await engine.merge(hot, proven)
    const after = await begin(alone(hot))
    expect([before.merged, after.merged]).toEqual([false, true])
    const [a, b] = await decode([before.id, after.id])
    expect(worstShare(a!.logits, b!.logits)).toBeLessThan(1e-4)
    expect(bits(a!.logits)).not.toBe(bits(b!.logits))
    let gone = false
    const unmerged = engine.unmerge(hot.digest).then(() => (gone = true))
    const late = await begin(alone(hot))
    expect(late.merged).toBe(false)
    expect(engine.merged()).toEqual([])
    await decode([after.id, before.id, late.id])
    expect([gone, live]).toEqual([false, 1])
    await engine.close(after.id)
    await unmerged
    expect(live).toBe(0)
    const rows = await decode([before.id, late.id])
    expect(rows.every(({ finite }) => finite)).toBe(true)
  })

  test('is stepped beside everybody else, rows in the order asked', async () => {
    const terms = [alone(other), alone(hot), [], alone(hot), alone(virtual)]
    const quiet = []
    for (const term of terms) quiet.push(await logitsOf(engine, term, PROMPT))
    await engine.merge(hot, proven)
    const ids = terms.map(() => freshId())
    for (const [i, id] of ids.entries()) await engine.open(id, terms[i]!)
    samples.length = 0
    const { rows } = await engine.step(
      ids.map((sequence) => ({ sequence, tokenIds: PROMPT, logits: 'all' })),
    )
    expect(rows.map(({ sequence }) => sequence)).toEqual(ids)
    for (const [i, { logits }] of rows.entries())
      expect(worstShare(logits, quiet[i]!)).toBeLessThan(1e-4)
    expect(samples).toEqual([
      {
        ms: expect.any(Number),
        decode: false,
        positions: 5 * PROMPT.length + 4,
        rows: [
          { adapter: other.digest, merged: false },
          { adapter: hot.digest, merged: true },
          { adapter: null, merged: false },
          { adapter: hot.digest, merged: true },
          { adapter: virtual.digest, merged: false },
        ],
      },
    ])
  })

  test('cannot make a step compute half of what it refuses', async () => {
    await engine.merge(hot, proven)
    const [a, b, c] = [await begin(alone(hot)), await begin(alone(virtual)), await begin([])]
    const quiet = await decode([a.id])
    const fine = { sequence: a.id, tokenIds: [4], logits: 'last' as const }
    const room = base.info.maxPositions - PROMPT.length
    const strange: StepRow[] = [
      { sequence: c.id, tokenIds: [base.info.vocab], logits: 'last' },
      { sequence: c.id, tokenIds: new Array(room + 1).fill(4), logits: 'last' },
      // Virtual tokens take positions as well.
      { sequence: b.id, tokenIds: new Array(room).fill(4), logits: 'last' },
    ]
    for (const row of strange)
      await expect(engine.step([fine, row])).rejects.toMatchObject({
        code: expect.stringMatching(/ERR_REQUEST_INVALID|ERR_PROMPT_TOO_LONG/),
      })
    // Nothing of it was fed: the next step is the same as on a sequence that saw none of it.
    const twin = await begin(alone(hot))
    expect(bits((await decode([twin.id]))[0]!.logits)).toBe(bits(quiet[0]!.logits))
    expect(bits((await decode([twin.id], 4))[0]!.logits)).toBe(
      bits((await engine.step([fine])).rows[0]!.logits),
    )
  })
})

test('ten cycles of merge and unmerge leave every bit of the base engine as it was', async () => {
  await engine.load(ia3(4))
  await engine.load(bottleneck(5, 'silu'))
  const terms = [[], alone(hot), alone(other), alone(ia3(4)), alone(bottleneck(5, 'silu'))]
  const all = async () => {
    const logits = []
    for (const term of terms) logits.push(bits(await logitsOf(engine, term, PROMPT)))
    return logits
  }
  const before = await all()
  const merged = new Set<string>()
  for (let cycle = 0; cycle < 10; cycle++) {
    await engine.merge(hot, proven)
    merged.add(bits(await logitsOf(engine, alone(hot), PROMPT)))
    await engine.unmerge(hot.digest)
    expect(await all()).toEqual(before)
  }
  expect(merged.size).toBe(1)
  expect(before).not.toContain([...merged][0])
}, 60_000)

describe('merging', () => {
  test('is refused by name for what is no change of weights, and nothing is left of it', async () => {
    await engine.load(bottleneck(5, 'silu'))
    for (let i = 0; i < 3; i++)
      await expect(engine.merge(bottleneck(5, 'silu'), proven)).rejects.toMatchObject({
        code: 'ERR_OPERATION_UNSUPPORTED',
        message: expect.stringMatching(/bottleneck at model.layers.0 .* cannot be merged/),
      })
    await engine.merge(hot, proven)
    await engine.merge(other, proven)
    expect(engine.merged().map(({ digest }) => digest)).toEqual([hot.digest, other.digest])
  })

  test('keeps its budget: what does not fit is refused with the numbers, until there is room', async () => {
    await Promise.all([engine.merge(hot, proven), engine.merge(other, proven)])
    await expect(engine.merge(ia3(4), proven)).rejects.toMatchObject({
      code: 'ERR_BANK_FULL',
      message: expect.stringMatching(/takes 1000 bytes, and 0 of the 2000 .*--merge/),
    })
    await engine.unmerge(other.digest)
    await expect(engine.merge(ia3(4), proven)).resolves.toMatchObject({ bytes: FORM })
  })

  test('asked twice at once builds one form, and unmerge waits for a build', async () => {
    const [a, b] = await Promise.all([engine.merge(hot, proven), engine.merge(hot, proven)])
    expect(a).toEqual(b)
    expect(live).toBe(1)
    const build = engine.merge(other, proven)
    await engine.unmerge(other.digest)
    await build
    expect(live).toBe(1)
    await engine.unmerge(hot.digest)
    await engine.unmerge(hot.digest)
    expect(live).toBe(0)
  })

  test('gives no traffic to a form that its proof refuses, and frees it', async () => {
    const no = new GraftError('ERR_ADMISSION_FAILED', 'goldens: prompt 0 is off')
    let seen: Float32Array | undefined
    const prove = async (merged: Engine) => {
      seen = await logitsOf(merged, [], PROMPT)
      throw no
    }
    await expect(engine.merge(hot, prove)).rejects.toBe(no)
    expect(worstShare(seen!, await logitsOf(engine, alone(hot), PROMPT))).toBeLessThan(1e-4)
    expect(live).toBe(0)
    expect((await begin(alone(hot))).merged).toBe(false)
    await Promise.all([engine.merge(hot, proven), engine.merge(other, proven)])
  })

  test('a merged adapter leaves the bank only once no sequence runs it', async () => {
    await engine.merge(hot, proven)
    const { id } = await begin(alone(hot))
    await expect(engine.unload(hot.digest)).rejects.toMatchObject({ code: 'ERR_BANK_FULL' })
    await engine.close(id)
    await engine.unload(hot.digest)
  })
})

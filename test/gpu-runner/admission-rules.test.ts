import { judge, measure, relativeError } from '@graft/runner/admission/compare.ts'
import { reproduceGoldens, type Score } from '@graft/runner/admission/goldens.ts'
import type { Goldens } from '@graft/sdk/format/manifest.ts'
import { writeSafetensors } from '@graft/sdk/format/safetensors.ts'
import { describe, expect, it } from 'vitest'

const row = (...values: number[]) => Float32Array.from(values)

describe('how logits are compared', () => {
  it('the error is relative to the largest logit, and NaN is never within it', () => {
    expect(relativeError(row(1, -4), row(1, -5))).toBeCloseTo(0.2, 6)
    expect(relativeError(row(Number.NaN), row(1))).toBe(Number.POSITIVE_INFINITY)
  })

  it('fp32: 1e-4 of max|logit| for base and adapted alike', () => {
    const want = { base: row(10, 0), adapted: row(0, 10) }
    const off = (by: number) => measure({ base: row(10, by), adapted: row(by, 10) }, want)
    expect(judge(off(9e-4), 'fp32')).toBeNull()
    expect(judge(off(1.1e-3), 'fp32')).toMatch(/base logits must be within 0.0001 .* got 0.000110/)
    const adapted = measure({ base: row(10, 0), adapted: row(0.01, 10) }, want)
    expect(judge(adapted, 'fp32')).toMatch(/adapted logits .* got 0.00100/)
  })

  it('quantised: the effect counts, not the base, by direction and by size', () => {
    const want = { base: row(10, 0, 0), adapted: row(10, 1, 0) }
    const got = (...effect: number[]) =>
      measure({ base: row(9, 1, 1), adapted: row(9, 1, 1).map((v, i) => v + effect[i]!) }, want)
    expect(judge(got(0, 1, 0.2), 'int4')).toBeNull()
    expect(judge(got(0, 1, 0.5), 'int4')).toMatch(/cosine of at least 0.95, got 0.894/)
    expect(judge(got(0, 0.85, 0), 'int4')).toMatch(/norm ratio must be within 0.9..1.1, got 0.85/)
    expect(judge(got(0, 1.15, 0), 'int4')).toMatch(/got 1.15/)
    expect(judge(got(0, 0, 0), 'int4')).toMatch(/cosine/)
  })
})

describe('goldens', () => {
  const vocab = 4
  const engine = {
    vocab,
    maxPositions: 16,
    precision: 'fp32' as const,
    bankPrecision: 'fp32' as const,
    kvPrecision: 'fp32' as const,
  }
  const hot = (id: number) => Float32Array.from({ length: vocab }, (_, i) => (i === id ? 5 : 0))
  /** The base says token + 1, the adapter token + 2. */
  const score: Score = async (tokenIds, adapted, positions) => {
    const out = new Float32Array(positions.length * vocab)
    for (const [i, at] of positions.entries())
      out.set(hot((tokenIds[at]! + (adapted ? 2 : 1)) % vocab), i * vocab)
    return out
  }
  const make = (prompt: Partial<Goldens['prompts'][number]>): Goldens => ({
    producer: 'peft@0.21.2',
    basePrecision: 'fp32',
    logits: { sha256: `sha256:${'0'.repeat(64)}` as never, size: 1 },
    prompts: [
      { tokenIds: [0, 1], positions: [1], greedy: { tokenIds: [], margins: [] }, ...prompt },
    ],
  })
  const blob = (base: Float32Array, adapted: Float32Array) => {
    const tensor = (values: Float32Array) => ({
      dtype: 'F32',
      shape: [values.length / vocab, vocab],
      data: new Uint8Array(values.buffer),
    })
    return writeSafetensors(
      new Map([
        ['base.0', tensor(base)],
        ['adapted.0', tensor(adapted)],
      ]),
    )
  }

  it('are compared at the positions that they hold', async () => {
    const report = await reproduceGoldens(make({}), blob(hot(2), hot(3)), engine, score)
    expect(report).toMatchObject({ producer: 'peft@0.21.2', prompts: 1, worst: { adapted: 0 } })
    await expect(
      reproduceGoldens(make({}), blob(hot(2), hot(1)), engine, score),
    ).rejects.toMatchObject({ code: 'ERR_ADMISSION_FAILED' })
  })

  it('of the base itself name the base: then the engine is at fault, not the adapter', async () => {
    const wrong = reproduceGoldens(make({}), blob(hot(1), hot(3)), engine, score)
    await expect(wrong).rejects.toThrow(/prompt 0: base logits/)
  })

  it('of greedy tokens alone hold where the margin is far above noise', async () => {
    const greedy = (tokenIds: number[], margins: number[]) =>
      make({ positions: [], greedy: { tokenIds, margins } })
    const none = blob(hot(0), hot(0))
    // 1 -> 3 -> 1: the last one is a coin toss and proves nothing.
    await expect(
      reproduceGoldens(greedy([3, 1, 0], [2, 2, 1e-6]), none, engine, score),
    ).resolves.toMatchObject({ worst: null })
    await expect(reproduceGoldens(greedy([3, 2], [2, 2]), none, engine, score)).rejects.toThrow(
      /greedy token 1 must be 2, got 1/,
    )
    // What the base alone would say too proves nothing of the adapter.
    const idle: Score = (tokenIds, _, positions) => score(tokenIds, true, positions)
    await expect(reproduceGoldens(greedy([3], [2]), none, engine, idle)).rejects.toThrow(
      /no prompt shows an effect/,
    )
    await expect(reproduceGoldens(greedy([3], [1e-6]), none, engine, score)).rejects.toThrow(
      /no prompt shows an effect/,
    )
  })

  it('are refused before they run when their tokens do not fit the base', async () => {
    let runs = 0
    const counted: Score = (...input) => {
      runs++
      return score(...input)
    }
    const none = blob(hot(0), hot(0))
    const greedy = (tokenIds: number[]) =>
      make({ positions: [], greedy: { tokenIds, margins: tokenIds.map(() => 2) } })
    await expect(reproduceGoldens(greedy([3, 999_999]), none, engine, counted)).rejects.toThrow(
      /tokens beyond the vocabulary/,
    )
    const long = greedy(Array.from({ length: 15 }, () => 3))
    await expect(reproduceGoldens(long, none, engine, counted)).rejects.toThrow(
      /prompt 0 must be "?at most 16 tokens/,
    )
    expect(runs).toBe(0)
  })

  it('of another vocabulary, or with a tensor missing, are refused', async () => {
    const wide = { ...engine, vocab: 5 }
    await expect(reproduceGoldens(make({}), blob(hot(2), hot(3)), wide, score)).rejects.toThrow(
      /base\.0 must be "?\[1, 5\]/,
    )
    const two = { ...make({}), prompts: [...make({}).prompts, ...make({}).prompts] }
    await expect(reproduceGoldens(two, blob(hot(2), hot(3)), engine, score)).rejects.toThrow(
      /must hold base\.1/,
    )
  })
})

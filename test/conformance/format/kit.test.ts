import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { differenceOf, openKit } from './kit.ts'
import { answer } from './runner.ts'

const kit = openKit(join(import.meta.dirname, 'fixtures'))

/** What the runner does not serve and refuses by name (ERR_OPERATION_UNSUPPORTED). */
const UNSUPPORTED = [
  'operation/low-rank-embedding',
  'operation/low-rank-experts',
  'operation/low-rank-kernel',
  'operation/bottleneck-block-ln',
  'operation/bottleneck-block-ln-post-add',
  'operation/bottleneck-block-ln-parallel',
]

describe('the conformance kit of the format', () => {
  it('has an answer for every case, and every kind of operation among them', () => {
    expect(kit.cases.map(({ id }) => id)).toEqual(Object.keys(kit.expected))
    const operations = kit.cases.filter(({ kind }) => kind === 'evaluate').map(({ id }) => id)
    for (const kind of [
      'low-rank',
      'magnitude',
      'scale',
      'bottleneck',
      'prefix',
      'prompt',
      'replace',
    ])
      expect(
        operations.some((id) => id.startsWith(`operation/${kind}`)),
        kind,
      ).toBe(true)
    for (const form of ['matrix', 'hadamard', 'kronecker', 'rotation', 'butterfly', 'spectrum'])
      expect(
        operations.some((id) => id.startsWith(`operation/dense-${form}`)),
        form,
      ).toBe(true)
  })

  it.each(kit.cases.map((given) => [given.id, given] as const))('%s', async (id, given) => {
    const got = await answer(kit, given)
    const want = UNSUPPORTED.includes(id) ? { unsupported: true } : kit.expected[id]
    expect(differenceOf(got, want)).toBeNull()
  })
})

describe('differenceOf', () => {
  it.each([
    [{ y: [[1]] }, { y: [[1.1]] }],
    [{ y: [[1]] }, { y: [[1, 2]] }],
    [{ error: 'ERR_A' }, { error: 'ERR_B' }],
    [{ a: null }, { a: 0 }],
    [{}, { verified: true }],
    [{ y: [[Number.NaN]] }, { y: [[1]] }],
  ])('tells %j from %j', (a, b) => {
    expect(differenceOf(a, b)).not.toBeNull()
    expect(differenceOf(b, a)).not.toBeNull()
  })
})

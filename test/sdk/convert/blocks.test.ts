import {
  blockShape,
  blockTransform,
  cutBlock,
  joinBlocks,
  parseBlock,
} from '@graft/convert/blocks.ts'
import { readAll } from '@graft/sdk/format/byte-source.ts'
import { heldTensor } from '@graft/sdk/format/tensor-source.ts'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

const size = (shape: number[]) => shape.reduce((n, dim) => n * dim, 1)
const tensor = (dtype: 'F32' | 'BF16' | 'U8', shape: number[]) => {
  const bytes = size(shape) * { F32: 4, BF16: 2, U8: 1 }[dtype]
  return heldTensor({ dtype, shape, data: Uint8Array.from({ length: bytes }, (_, i) => i % 251) })
}

/** A view, and where each of its axes is cut. */
const tiling = fc
  .array(fc.integer({ min: 1, max: 5 }), { minLength: 1, maxLength: 4 })
  .chain((view) =>
    fc.record({
      view: fc.constant(view),
      cuts: fc.tuple(
        ...view.map((dim) => fc.uniqueArray(fc.integer({ min: 1, max: dim }), { maxLength: 3 })),
      ),
      axes: fc.shuffledSubarray(
        view.map((_, axis) => axis),
        { minLength: view.length },
      ),
      dtype: fc.constantFrom('F32' as const, 'BF16' as const, 'U8' as const),
    }),
  )

/** All boxes between the cuts. */
const boxes = (view: number[], cuts: number[][], axes: number[]) =>
  view
    .map((dim, axis) => {
      const at = [...new Set([0, ...cuts[axis]!, dim])].sort((a, b) => a - b)
      return at.slice(1).map((end, i) => [at[i]!, end] as const)
    })
    .reduce<(readonly [number, number])[][]>(
      (all, ranges) => all.flatMap((box) => ranges.map((range) => [...box, range])),
      [[]],
    )
    .map((box) => ({ view, begin: box.map(([from]) => from), end: box.map(([, to]) => to), axes }))

describe('blocks of a tensor', () => {
  it('of any tiling, in any order of axes and dtype, give its bytes back through their transforms', async () => {
    await fc.assert(
      fc.asyncProperty(tiling, async ({ view, cuts, axes, dtype }) => {
        const source = tensor(dtype, [size(view)])
        const parts = boxes(view, cuts, axes).map((block) => ({
          ...parseBlock(blockTransform(block, source.shape))!,
          tensor: cutBlock(source, block),
        }))
        const again = joinBlocks(parts)!
        expect(again.shape).toEqual(source.shape)
        expect(await readAll(again.data)).toEqual(await readAll(source.data))
      }),
      { numRuns: 200 },
    )
  })

  it('hold the elements that their box and axes say', async () => {
    const source = tensor('U8', [2, 3, 4])
    const block = { view: [2, 3, 4], begin: [0, 1, 1], end: [2, 3, 3], axes: [2, 0, 1] }
    expect(blockShape(block)).toEqual([2, 2, 2])
    const at = (i: number, j: number, k: number) => (i * 3 + j) * 4 + k
    const want = [1, 2].flatMap((k) => [0, 1].flatMap((i) => [1, 2].map((j) => at(i, j, k))))
    expect([...(await readAll(cutBlock(source, block).data))]).toEqual(want)
  })

  it.each([
    ['a gap', [[0, 1]]],
    [
      'an overlap',
      [
        [0, 2],
        [1, 3],
      ],
    ],
    [
      'one twice, another not at all',
      [
        [0, 1],
        [0, 1],
        [1, 2],
      ],
    ],
  ])('with %s make no tensor', (_, rows) => {
    const source = tensor('U8', [3, 2])
    const parts = rows.map(([from, to]) => {
      const block = { view: [3, 2], begin: [from!, 0], end: [to!, 2], axes: [0, 1] }
      return { block, shape: [3, 2], tensor: cutBlock(source, block) }
    })
    expect(joinBlocks(parts)).toBeNull()
  })

  it('of another view, dtype or size than they say make no tensor', () => {
    const part = (dtype: 'F32' | 'U8', begin: number, shape = [2, 2]) => {
      const block = { view: [2, 2], begin: [begin, 0], end: [begin + 1, 2], axes: [0, 1] }
      return { block, shape, tensor: cutBlock(tensor(dtype, [2, 2]), block) }
    }
    expect(joinBlocks([part('U8', 0), part('U8', 1)])).not.toBeNull()
    expect(joinBlocks([part('U8', 0), part('F32', 1)])).toBeNull()
    expect(joinBlocks([part('U8', 0), part('U8', 1, [4])])).toBeNull()
    const short = { ...part('U8', 1), tensor: tensor('U8', [1]) }
    expect(joinBlocks([part('U8', 0), short])).toBeNull()
    expect(joinBlocks([])).toBeNull()
  })

  it.each([
    'block 2,2 0,0 2,2 0,1',
    'block 2,2 0,0 3,2 0,1 4',
    'block 2,2 1,0 1,2 0,1 4',
    'block 2,2 0,0 2,2 0,0 4',
    'block 2,2 0 2,2 0,1 4',
    'block 2,2 0,0 2,2 0,1 5',
    'block 2,x 0,0 2,2 0,1 4',
    'block 2,2 -1,0 2,2 0,1 4',
  ])('%s is no block', (text) => expect(parseBlock(text)).toBeNull())
})

import type { GraphContext } from './context.ts'
import { chunkParts, GROUP_KINDS, type GroupKind, type LinearGroup } from './linear-groups.ts'
import { ONNX_TYPE, type OnnxModel } from './onnx-model.ts'

const { FLOAT, INT64, BOOL } = ONNX_TYPE

/** Rank rows of one page of the bank. */
export const PAGE_RANK = 16

/**
 * Low-rank updates of a group of linears. P pages of the bank take part in a run and m = i*j tokens read each of them;
 * C chunks of outputs, S parts of the group:
 *
 *   <kind>.pages.tokens [P,i,1,j] tokens that read a page; .valid [P,i,1,j,1] whether that place is taken
 *   <key>.A [P,1,S,in,rank], <key>.B [P,1,C,rank,chunk]
 *
 * where the third dimension is left out if the group has one part and so one chunk.
 *
 * Tokens of one prompt stand along j and are multiplied as one matrix. Tokens of different rows stand along i and are
 * multiplied one by one: a matrix of several rows is summed in another order than a single one, and the bits of a row
 * would tell how many others use its adapter. Nor are the parts of a group one product of S*rank columns: of more than 16
 * columns onnxruntime gives each thread some, in each product as many as the number of products leaves it, and the columns
 * of a thread decide in which pieces it sums over `in`.
 *
 * Where every place is taken and no token reads two pages, `.put` names the rows [tokens*C, chunk] that outputs are added
 * to. Otherwise, and `.summed` says so, `.sum` [U,K] names the K outputs, or zeros, that are added first, for each of U
 * rows of `.put_sums`: ScatterND adds from several threads, so no row may be named twice, not even to add a zero. They are
 * added as products with K ones, `.ones` [U,1,K], one by one: ReduceSum adds in another order where U is 1.
 * Places that nobody takes are selected away, never multiplied by a mask: Inf * 0 is NaN.
 */
export function pageInputs(context: GraphContext): void {
  const { m, groups } = context
  for (const kind of GROUP_KINDS) {
    const group = groups.find((candidate) => candidate.kind === kind)!
    const chunks = group.out / group.chunk
    const [p, i, j] = pageDims(kind)
    const places = group.parts.length > 1 ? [p, i, 1, j] : [p, i, j]
    m.input(`${kind}.pages.tokens`, INT64, places)
    m.input(`${kind}.pages.valid`, BOOL, [...places, 1])
    m.input(`${kind}.pages.put`, INT64, chunks > 1 ? [p, i, chunks, j, 1] : [p, i, j, 1])
    m.input(`${kind}.pages.summed`, BOOL, [])
    m.input(`${kind}.pages.sum`, INT64, [`${kind}.U`, `${kind}.K`])
    m.input(`${kind}.pages.ones`, FLOAT, [`${kind}.U`, 1, `${kind}.K`])
    m.input(`${kind}.pages.put_sums`, INT64, [`${kind}.U`, 1, 1])
  }
}

/** Names of P, i and j: onnxruntime takes dimensions of one name for equal, and they differ between kinds. */
const pageDims = (kind: GroupKind) => [`${kind}.P`, `${kind}.i`, `${kind}.j`] as const

/** A's output by part, at this axis, as one for every chunk. */
export function byChunk(m: OnnxModel, group: LinearGroup, shrunk: string, axis: number): string {
  const parts = chunkParts(group)
  if (parts.length === group.parts.length) return shrunk
  return m.node('Gather', [shrunk, m.integers(parts)], { axis })
}

/**
 * @param x [tokens, in]
 * @param y [tokens, out]
 * @returns the name of y + B(A x) for the tokens that read pages
 */
export function addLowRank(
  { m, zero }: GraphContext,
  group: LinearGroup,
  x: string,
  y: string,
): string {
  const { key, kind, chunk } = group
  const parts = group.parts.length
  const chunks = group.out / chunk
  const [pages] = pageDims(kind)
  const input = (name: string) => `${kind}.pages.${name}`
  const single = chunks === 1
  const a = m.input(
    `${key}.A`,
    FLOAT,
    single ? [pages, 1, group.in, PAGE_RANK] : [pages, 1, parts, group.in, PAGE_RANK],
  )
  const b = m.input(
    `${key}.B`,
    FLOAT,
    single ? [pages, 1, PAGE_RANK, chunk] : [pages, 1, chunks, PAGE_RANK, chunk],
  )
  const read = m.node('Gather', [x, input('tokens')], { axis: 0 })
  const shrunk = m.node('MatMul', [read, a])
  const expand = (z: string): string => m.node('MatMul', [byChunk(m, group, z, 2), b])
  const add = (target: string, where: string, values: string) =>
    m.node('ScatterND', [target, input(where), values], { reduction: 'add' })
  const direct = (target: string) => add(target, 'put', expand(shrunk))
  const sums = (target: string) => {
    const updates = expand(m.node('Where', [input('valid'), shrunk, zero]))
    const rows = m.node('Reshape', [updates, m.integers([-1, chunk])])
    const terms = m.node('Gather', [rows, input('sum')], { axis: 0 })
    const sum = m.node('MatMul', [input('ones'), terms])
    return add(target, 'put_sums', sum)
  }
  const put = (target: string) =>
    m.branch(
      input('summed'),
      () => sums(target),
      () => direct(target),
    )
  if (single) return put(y)
  const rows = m.node('Reshape', [y, m.integers([-1, chunk])])
  return m.node('Reshape', [put(rows), m.integers([-1, group.out])])
}

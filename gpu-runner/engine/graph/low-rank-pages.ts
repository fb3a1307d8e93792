import type { GraphContext } from './context.ts'
import { chunkParts, GROUP_KINDS, type GroupKind, type LinearGroup } from './linear-groups.ts'
import { ONNX_TYPE } from './onnx-model.ts'

const { FLOAT, INT64, BOOL } = ONNX_TYPE

/** Rank rows of one page of the bank. */
export const PAGE_RANK = 16

/**
 * Low-rank updates of a group of linears. P pages of the bank take part in a run and m = i*j tokens read each of them;
 * C chunks of outputs, S parts of the group:
 *
 *   <kind>.pages.tokens [P,i,j] tokens that read a page; .valid [P,i,j,1] whether that place is taken
 *   <kind>.pages.parts [P,i,C,j] (S > 1): row of A's output, [P*i*j*S, rank], that a chunk goes on with
 *   <key>.A [P,1,in,S*rank], <key>.B [P,1,C,rank,chunk], or [P,1,rank,out] where C is 1
 *
 * Tokens of one prompt stand along j and are multiplied as one matrix. Tokens of different rows stand along i and are
 * multiplied one by one: a matrix of several rows is summed in another order than a single one, and the bits of a row
 * would tell how many others use its adapter.
 *
 * Where every place is taken and no token reads two pages, `.put` names the rows [tokens*C, chunk] that outputs are added
 * to. Otherwise, and `.summed` says so, `.sum` [U,K] names the K outputs, or zeros, that are added first, for each of U
 * rows of `.put_sums`: ScatterND adds from several threads, so no row may be named twice, not even to add a zero.
 * Places that nobody takes are selected away, never multiplied by a mask: Inf * 0 is NaN.
 */
export function pageInputs(context: GraphContext): void {
  const { m, groups } = context
  for (const kind of GROUP_KINDS) {
    const group = groups.find((candidate) => candidate.kind === kind)!
    const chunks = group.out / group.chunk
    const [p, i, j] = pageDims(kind)
    m.input(`${kind}.pages.tokens`, INT64, [p, i, j])
    m.input(`${kind}.pages.valid`, BOOL, [p, i, j, 1])
    if (group.parts.length > 1) m.input(`${kind}.pages.parts`, INT64, [p, i, chunks, j])
    m.input(`${kind}.pages.put`, INT64, chunks > 1 ? [p, i, chunks, j, 1] : [p, i, j, 1])
    m.input(`${kind}.pages.summed`, BOOL, [])
    m.input(`${kind}.pages.sum`, INT64, [`${kind}.U`, `${kind}.K`])
    m.input(`${kind}.pages.put_sums`, INT64, [`${kind}.U`, 1])
  }
}

/** Names of P, i and j: onnxruntime takes dimensions of one name for equal, and they differ between kinds. */
const pageDims = (kind: GroupKind) => [`${kind}.P`, `${kind}.i`, `${kind}.j`] as const

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
  const chunks = chunkParts(group).length
  const [pages] = pageDims(kind)
  const input = (name: string) => `${kind}.pages.${name}`
  const a = m.input(`${key}.A`, FLOAT, [pages, 1, group.in, parts * PAGE_RANK])
  const single = chunks === 1
  const b = m.input(
    `${key}.B`,
    FLOAT,
    single ? [pages, 1, PAGE_RANK, chunk] : [pages, 1, chunks, PAGE_RANK, chunk],
  )
  const read = m.node('Gather', [x, input('tokens')], { axis: 0 })
  const shrunk = m.node('MatMul', [read, a])
  const expand = (z: string): string => {
    if (parts === 1) return m.node('MatMul', [z, b])
    const rows = m.node('Reshape', [z, m.integers([-1, PAGE_RANK])])
    return m.node('MatMul', [m.node('Gather', [rows, input('parts')], { axis: 0 }), b])
  }
  const add = (target: string, where: string, values: string) =>
    m.node('ScatterND', [target, input(where), values], { reduction: 'add' })
  const direct = (target: string) => add(target, 'put', expand(shrunk))
  const sums = (target: string) => {
    const updates = expand(m.node('Where', [input('valid'), shrunk, zero]))
    const rows = m.node('Reshape', [updates, m.integers([-1, chunk])])
    const terms = m.node('Gather', [rows, input('sum')], { axis: 0 })
    const sum = m.node('ReduceSum', [terms, m.integers([1])], { keepdims: 0 })
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

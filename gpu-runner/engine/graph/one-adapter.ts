import type { GraphContext } from './context.ts'
import type { LinearGroup } from './linear-groups.ts'
import { byChunk, PAGE_RANK } from './low-rank-pages.ts'
import { ONNX_TYPE } from './onnx-model.ts'

const { FLOAT } = ONNX_TYPE

export function oneAdapterInputs({ m, traits }: GraphContext): void {
  if (!traits.severalPages) return
  for (const kind of traits.kinds) m.input(`${kind}.ones`, FLOAT, [1, `${kind}.P`])
}

/**
 * The low-rank update of a run whose tokens all read the same P pages of one adapter: what low-rank-pages.ts computes, by
 * the same products and sums, without naming tokens and places. C chunks of outputs, S parts of the group:
 *
 *   <key>.A [P,S,in,rank], <key>.B [P,C,rank,chunk]: views of the bank; <kind>.ones [1,P] where P may be more than 1
 *
 * The bits of a row are those of low-rank-pages.ts: one token is a vector, several are one matrix.
 * @param x [tokens, in]
 * @param y [tokens, out]
 * @returns the name of y + B(A x)
 */
export function addOneLowRank(
  { m, traits }: GraphContext,
  group: LinearGroup,
  x: string,
  y: string,
): string {
  const { key, kind, chunk, out } = group
  if (!traits.kinds.has(kind)) return y
  const chunks = out / chunk
  const pages = traits.severalPages ? `${kind}.P` : 1
  const a = m.input(`${key}.A`, FLOAT, [pages, group.parts.length, group.in, PAGE_RANK])
  const b = m.input(`${key}.B`, FLOAT, [pages, chunks, PAGE_RANK, chunk])
  const shrunk = byChunk(m, group, m.node('MatMul', [x, a]), 1)
  const expanded = m.node('MatMul', [shrunk, b])
  /** [1,C,tokens,chunk] */
  const summed = (): string => {
    const pagesFirst = m.node('Reshape', [expanded, m.integers([0, -1])])
    const sum = m.node('MatMul', [`${kind}.ones`, pagesFirst])
    return chunks > 1 ? m.node('Reshape', [sum, m.integers([1, chunks, -1, chunk])]) : sum
  }
  const update = traits.severalPages ? summed() : expanded
  const byToken = chunks > 1 ? m.node('Transpose', [update], { perm: [0, 2, 1, 3] }) : update
  return m.node('Add', [y, m.node('Reshape', [byToken, m.integers([-1, out])])])
}

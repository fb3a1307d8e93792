import type { GraphContext } from './context.ts'
import { GROUP_KINDS, type GroupKind, type LinearGroup } from './linear-groups.ts'
import { ONNX_TYPE } from './onnx-model.ts'

const { FLOAT, INT64, BOOL } = ONNX_TYPE

/** Before a group's linears, or after them. */
export const VECTOR_SIDES = ['in', 'out'] as const
export type VectorSide = (typeof VECTOR_SIDES)[number]

/** Whether any row of a run has vectors there, in any layer. */
export const vectorsOn = (kind: GroupKind, side: VectorSide): string => `${kind}.${side}_vectors.on`

/** Tokens [V,1] whose row has vectors in the bank, and the entry [V] of each. */
export function vectorInputs({ m }: GraphContext): void {
  m.input('vectors.tokens', INT64, ['V', 1])
  m.input('vectors.entries', INT64, ['V'])
  for (const kind of GROUP_KINDS)
    for (const side of VECTOR_SIDES) m.input(vectorsOn(kind, side), BOOL, [])
}

/**
 * Multiplies the rows that have vectors by theirs; other rows are not touched.
 * @param table of the bank, [N,width]
 * @param x [tokens, width]
 */
export function timesVectors(
  { m }: GraphContext,
  { kind, in: inner, out }: LinearGroup,
  side: VectorSide,
  table: string,
  x: string,
): string {
  m.input(table, FLOAT, ['N', side === 'in' ? inner : out])
  const multiplied = () => {
    const own = m.node('Gather', [table, 'vectors.entries'], { axis: 0 })
    return m.node('ScatterND', [x, 'vectors.tokens', own], { reduction: 'mul' })
  }
  return m.branch(vectorsOn(kind, side), multiplied, () => x)
}

import type { GraphContext } from './context.ts'
import { GROUP_KINDS, type GroupKind, type LinearGroup } from './linear-groups.ts'
import { ONNX_TYPE } from './onnx-model.ts'

const { FLOAT, INT64 } = ONNX_TYPE

/** Before a group's linears, or after them. */
export const VECTOR_SIDES = ['in', 'out'] as const
export type VectorSide = (typeof VECTOR_SIDES)[number]

/** Where vectors stand, in any layer. */
export const vectorsName = (kind: GroupKind, side: VectorSide): string => `${kind}.${side}_vectors`

/** For each kind and side: tokens [V,1] whose row has vectors there, and the entry [V] of each. */
export function vectorInputs({ m }: GraphContext): void {
  for (const kind of GROUP_KINDS)
    for (const side of VECTOR_SIDES) {
      const name = vectorsName(kind, side)
      m.input(`${name}.tokens`, INT64, [`${name}.V`, 1])
      m.input(`${name}.entries`, INT64, [`${name}.V`])
    }
}

/**
 * Multiplies the rows that have vectors by theirs; other rows are not touched. Where no row has any, two nodes over
 * nothing cost less than a branch.
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
  const name = vectorsName(kind, side)
  m.input(table, FLOAT, ['N', side === 'in' ? inner : out])
  const own = m.node('Gather', [table, `${name}.entries`], { axis: 0 })
  return m.node('ScatterND', [x, `${name}.tokens`, own], { reduction: 'mul' })
}

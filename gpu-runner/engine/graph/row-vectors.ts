import type { GraphContext } from './context.ts'
import { ONNX_TYPE } from './onnx-model.ts'

const { FLOAT, INT64 } = ONNX_TYPE

/** Tokens [V,1] whose row has vectors in the bank, and the entry [V] of each. */
export function vectorInputs({ m }: GraphContext): void {
  m.input('vectors.tokens', INT64, ['V', 1])
  m.input('vectors.entries', INT64, ['V'])
}

/**
 * Multiplies the rows that have vectors by theirs; other rows are not touched.
 * @param x [tokens, width]
 */
export function timesVectors({ m }: GraphContext, table: string, width: number, x: string): string {
  const own = m.node('Gather', [m.input(table, FLOAT, ['N', width]), 'vectors.entries'], {
    axis: 0,
  })
  return m.node('ScatterND', [x, 'vectors.tokens', own], { reduction: 'mul' })
}

import type { Dense } from '../operations.ts'
import { whole } from './kronecker.ts'
import { denseRows, kroneckerSides, type SlotValues } from './rows.ts'
import { spectrumNorm } from './spectrum.ts'

/** ||dW||_F; null for forms whose dW depends on the base's weights. */
export function denseNorm(op: Dense, values: SlotValues): number | null {
  switch (op.form) {
    case 'matrix':
      return lengthOf(values(op.slots.dW))
    case 'hadamard': {
      const addRow = denseRows(op, values)
      let squares = 0
      for (let o = 0; o < op.out; o++) {
        const row = new Float64Array(op.in)
        addRow(row, o)
        squares += lengthOf(row) ** 2
      }
      return Math.sqrt(squares)
    }
    case 'kronecker': {
      const [w1, w2] = kroneckerSides(op, values)
      return Math.abs(Number(op.scale)) * lengthOf(whole(w1)) * lengthOf(whole(w2))
    }
    case 'spectrum': {
      const indices = values(op.slots.indices)
      const [rows, columns] = [
        indices.subarray(0, op.frequencies),
        indices.subarray(op.frequencies),
      ]
      const scale = Number(op.scale)
      return spectrumNorm(values(op.slots.values), rows, columns, { ...op, scale })
    }
    case 'rotation':
    case 'butterfly':
      return null
  }
}

function lengthOf(values: ArrayLike<number>): number {
  let squares = 0
  for (let i = 0; i < values.length; i++) squares += values[i]! * values[i]!
  return Math.sqrt(squares)
}

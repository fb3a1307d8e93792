import { expected, GraftError } from '@graft/sdk/format/errors.ts'

/** How an adapter waits in the bank; what a step reads is f32 always. */
export const BANK_PRECISIONS = ['fp32', 'fp16', 'int8'] as const
export type BankPrecision = (typeof BANK_PRECISIONS)[number]

/** A table of an adapter's pages, held at the bank's precision. */
export interface StoredTable {
  bytes: number
  /** Writes the values times `factor`. */
  copyTo(target: Float32Array, factor: number): void
}

/** Matrices [rows, columns] one after the other; int8 has one scale for each row or column of each. */
export interface TableShape {
  rows: number
  columns: number
  scaled: 'rows' | 'columns'
}

/** @throws ERR_WEIGHTS_NON_FINITE when a value lies beyond fp16 */
export function storeTable(
  values: Float32Array,
  shape: TableShape,
  precision: BankPrecision,
): StoredTable {
  if (precision === 'fp16') return storeHalves(values)
  if (precision === 'int8') return storeBytes(values, shape)
  return {
    bytes: values.byteLength,
    copyTo(target, factor) {
      target.set(values)
      if (factor !== 1) for (let i = 0; i < target.length; i++) target[i]! *= factor
    },
  }
}

const LARGEST_HALF = 65_504

function storeHalves(values: Float32Array): StoredTable {
  for (let i = 0; i < values.length; i++)
    if (Math.abs(values[i]!) > LARGEST_HALF)
      throw new GraftError(
        'ERR_WEIGHTS_NON_FINITE',
        `${expected('a weight, its scale folded in', `at most ${LARGEST_HALF} in an fp16 bank`, values[i])}; run with an fp32 bank`,
      )
  const halves = new Float16Array(values)
  return {
    bytes: halves.byteLength,
    copyTo(target, factor) {
      for (let i = 0; i < target.length; i++) target[i] = halves[i]! * factor
    },
  }
}

/** Symmetric, the largest of a row or column at 127. */
function storeBytes(values: Float32Array, { rows, columns, scaled }: TableShape): StoredTable {
  const size = rows * columns
  const lines = scaled === 'rows' ? rows : columns
  const quantized = new Int8Array(values.length)
  const scales = new Float32Array((values.length / size) * lines)
  const byRow = scaled === 'rows'
  const each = (visit: (at: number, line: number) => void): void => {
    for (let at = 0, matrix = 0; at < values.length; matrix++)
      for (let row = 0; row < rows; row++)
        for (let column = 0; column < columns; column++, at++)
          visit(at, matrix * lines + (byRow ? row : column))
  }
  each((at, line) => {
    const magnitude = Math.abs(values[at]!)
    if (magnitude > scales[line]!) scales[line] = magnitude
  })
  for (let line = 0; line < scales.length; line++) scales[line]! /= 127
  each((at, line) => {
    quantized[at] = scales[line] === 0 ? 0 : Math.round(values[at]! / scales[line]!)
  })
  return {
    bytes: quantized.byteLength + scales.byteLength,
    copyTo(target, factor) {
      for (let at = 0, matrix = 0; at < target.length; matrix++)
        for (let row = 0; row < rows; row++) {
          const line = matrix * lines + (byRow ? row : 0)
          for (let column = 0; column < columns; column++, at++)
            target[at] = quantized[at]! * scales[byRow ? line : line + column]! * factor
        }
    },
  }
}

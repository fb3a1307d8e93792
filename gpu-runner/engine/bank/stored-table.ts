import { expected, GraftError } from '@graft/sdk/format/errors.ts'

/** How an adapter waits in the bank; what a step reads is f32 always. */
export const BANK_PRECISIONS = ['fp32', 'fp16', 'int8'] as const
export type BankPrecision = (typeof BANK_PRECISIONS)[number]

/** A table of an adapter's pages, held at the bank's precision. Plain data, so that it passes between threads. */
export type StoredTable =
  | { precision: 'fp32'; values: Float32Array }
  | { precision: 'fp16'; values: Float16Array }
  | { precision: 'int8'; values: Int8Array; scales: Float32Array; shape: TableShape }

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
  return { precision, values }
}

export const storedBytes = (table: StoredTable): number =>
  table.values.byteLength + (table.precision === 'int8' ? table.scales.byteLength : 0)

/** Writes the values times `factor`. */
export function copyStored(table: StoredTable, target: Float32Array, factor: number): void {
  const { values } = table
  if (table.precision === 'int8') copyBytes(table, target, factor)
  else if (table.precision === 'fp32' && factor === 1) target.set(values)
  else for (let i = 0; i < target.length; i++) target[i] = values[i]! * factor
}

function copyBytes(
  { values, scales, shape }: Extract<StoredTable, { precision: 'int8' }>,
  target: Float32Array,
  factor: number,
): void {
  const { rows, columns } = shape
  const byRow = shape.scaled === 'rows'
  const lines = byRow ? rows : columns
  for (let at = 0, matrix = 0; at < target.length; matrix++)
    for (let row = 0; row < rows; row++) {
      const line = matrix * lines + (byRow ? row : 0)
      for (let column = 0; column < columns; column++, at++)
        target[at] = values[at]! * scales[byRow ? line : line + column]! * factor
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
  return { precision: 'fp16', values: new Float16Array(values) }
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
  return { precision: 'int8', values: quantized, scales, shape: { rows, columns, scaled } }
}

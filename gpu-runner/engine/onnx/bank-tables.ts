import type { RowRange, RowTables } from '../bank/writes.ts'
import { floats, type Ort } from './ort.ts'

/** How tables of the bank become inputs of a run. */
export interface BankTables {
  /** An input begins with a table's first row, whatever rows are read. */
  readonly fromStart: boolean
  /** Makes what was written into these tables readable by a run. */
  follow(tables: RowTables[]): Promise<void> | void
  /** Rows of a table; those that nobody wrote are zeros. */
  rows(tables: RowTables, key: string, range: RowRange, dims: number[]): Ort.Tensor
  dispose(): Promise<void> | void
}

/** Views of the bank's own memory. */
export const hostTables: BankTables = {
  fromStart: false,
  follow() {},
  rows(tables, key, range, dims) {
    if (range.first + range.count > tables.used)
      return floats(new Float32Array(range.count * tables.width(key)), dims)
    return floats(tables.rows(key, range), dims)
  },
  dispose() {},
}

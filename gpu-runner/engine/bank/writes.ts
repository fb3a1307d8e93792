/** When each row of some tables was last written, so that a copy elsewhere can follow. */
export class Writes {
  readonly #times: number[] = []
  #now = 0

  /** The time of the last write. */
  get now(): number {
    return this.#now
  }

  note(first: number, count: number): void {
    this.#now++
    for (let row = first; row < first + count; row++) this.#times[row] = this.#now
  }

  /** Rows below `used` that were written after that time, lowest first. */
  since(time: number, used: number): number[] {
    const rows: number[] = []
    for (let row = 0; row < used; row++) if ((this.#times[row] ?? 0) > time) rows.push(row)
    return rows
  }
}

/** Tables of rows that belong together, one row of each for every row number. */
export interface RowTables {
  readonly writes: Writes
  /** Rows in use: the first ones. */
  readonly used: number
  keys(): Iterable<string>
  /** Floats of one row. */
  width(key: string): number
  rows(key: string, range: RowRange): Float32Array
}

/** Rows side by side. */
export interface RowRange {
  first: number
  count: number
}

import { type RowRange, type RowTables, Writes } from './writes.ts'

/**
 * Rows of several keyed tables that belong together: those of one adapter's bottlenecks at every place, its output head.
 * Rows in use are always the first `used` rows of every table, so that a graph input is a view.
 * Memory is shared, so that another thread may fill it.
 */
export class RowRegion implements RowTables {
  readonly writes = new Writes()
  #tables = new Map<string, { width: number; data: Float32Array }>()
  #capacity = 0
  #used = 0
  #owners: { id: string; rows: number }[] = []

  readonly #least: number

  /** @param least rows that the first growth makes room for; 1 where a row is large */
  constructor(widths: Iterable<[key: string, width: number]>, least = 16) {
    this.#least = least
    for (const [key, width] of widths) this.#tables.set(key, { width, data: shared(0) })
  }

  get used(): number {
    return this.#used
  }

  has(id: string): boolean {
    return this.#owners.some((owner) => owner.id === id)
  }

  /** First row of an owner. */
  offset(id: string): number {
    let at = 0
    for (const owner of this.#owners) {
      if (owner.id === id) return at
      at += owner.rows
    }
    throw new TypeError(`no rows of ${id} are active`)
  }

  /** Appends `rows` rows; a table that `fill` leaves out gets zeros. */
  add(id: string, rows: number, fill: (key: string) => Float32Array | undefined): void {
    this.#reserve(this.#used + rows)
    for (const [key, { width, data }] of this.#tables) {
      const target = data.subarray(this.#used * width, (this.#used + rows) * width)
      const values = fill(key)
      // An adapter's rank may differ between sites: the rows it lacks are zeros.
      target.fill(0, values?.length ?? 0)
      if (values) target.set(values)
    }
    this.#owners.push({ id, rows })
    this.writes.note(this.#used, rows)
    this.#used += rows
  }

  /** Takes an owner's rows out; later rows move up. */
  remove(id: string): void {
    const offset = this.offset(id)
    const { rows } = this.#owners.find((owner) => owner.id === id)!
    for (const { width, data } of this.#tables.values())
      data.copyWithin(offset * width, (offset + rows) * width, this.#used * width)
    this.#owners = this.#owners.filter((owner) => owner.id !== id)
    this.#used -= rows
    this.writes.note(offset, this.#used - offset)
  }

  /** The rows in use of one table, [used, width]. */
  view(key: string): Float32Array {
    const { width, data } = this.#tables.get(key)!
    return data.subarray(0, this.#used * width)
  }

  rows(key: string, { first, count }: RowRange): Float32Array {
    const { width, data } = this.#tables.get(key)!
    return data.subarray(first * width, (first + count) * width)
  }

  keys(): IterableIterator<string> {
    return this.#tables.keys()
  }

  width(key: string): number {
    return this.#tables.get(key)!.width
  }

  #reserve(rows: number): void {
    if (rows <= this.#capacity) return
    const capacity = this.#least === 1 ? rows : Math.max(rows, this.#capacity * 2, this.#least)
    const grown = [...this.#tables.values()].map((table) => {
      const data = shared(capacity * table.width)
      data.set(table.data.subarray(0, this.#used * table.width))
      return { table, data }
    })
    for (const { table, data } of grown) table.data = data
    this.#capacity = capacity
  }
}

const shared = (floats: number): Float32Array => new Float32Array(new SharedArrayBuffer(floats * 4))

import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import { type RowRange, type RowTables, Writes } from './writes.ts'

/** Pages of one owner, side by side. */
export interface PageRange {
  first: number
  count: number
}

/**
 * Pages of several tables that belong together: one page of an adapter in every layer. Pages in use are always the
 * first ones, so that a graph input is a view; page 0 is zeros and belongs to nobody. Any number of pages fits behind
 * the others, so ranks mix without padding to the largest, and a hole is filled when its owner leaves.
 */
export class PageRegion implements RowTables {
  readonly writes = new Writes()
  readonly #tables = new Map<string, { floats: number; data: Float32Array }>()
  readonly #owners = new Map<string, PageRange>()
  #used = 1
  #capacity = 0

  /** @param tables floats of one page, by table */
  constructor(tables: Iterable<[key: string, floats: number]>) {
    for (const [key, floats] of tables) this.#tables.set(key, { floats, data: shared(0) })
    this.#reserve(this.#used)
    this.writes.note(0, 1)
  }

  /** Pages in use, the one of zeros included. */
  get used(): number {
    return this.#used
  }

  keys(): IterableIterator<string> {
    return this.#tables.keys()
  }

  pagesOf(owner: string): PageRange {
    const range = this.#owners.get(owner)
    if (range) return range
    throw new TypeError(`no pages of ${owner} are active`)
  }

  /** Appends pages; a table that `fill` leaves alone has zeros there. */
  add(owner: string, count: number, fill: (key: string, target: Float32Array) => void): void {
    this.#reserve(this.#used + count)
    const range = { first: this.#used, count }
    for (const key of this.#tables.keys()) {
      const target = this.view(key, range)
      target.fill(0)
      fill(key, target)
    }
    this.#owners.set(owner, range)
    this.#used += count
    this.writes.note(range.first, count)
  }

  /** Takes an owner's pages out. The last owner's move into the hole where they fit, else all later ones move up. */
  remove(owner: string): void {
    const hole = this.pagesOf(owner)
    this.#owners.delete(owner)
    this.#used -= hole.count
    if (hole.first === this.#used) return
    const last = [...this.#owners.values()].find(
      ({ first, count }) => first + count === this.#used + hole.count,
    )!
    if (last.count === hole.count) {
      this.#move(last.first, hole.first, hole.count)
      last.first = hole.first
      return
    }
    this.#move(hole.first + hole.count, hole.first, this.#used - hole.first)
    for (const range of this.#owners.values())
      if (range.first > hole.first) range.first -= hole.count
  }

  width(key: string): number {
    return this.#tables.get(key)!.floats
  }

  /** Pages [first, first + count) of a table. */
  rows(key: string, range: RowRange): Float32Array {
    return this.view(key, range)
  }

  view(key: string, { first, count }: PageRange): Float32Array {
    const { floats, data } = this.#tables.get(key)!
    return data.subarray(first * floats, (first + count) * floats)
  }

  #move(from: number, to: number, count: number): void {
    for (const { floats, data } of this.#tables.values())
      data.copyWithin(to * floats, from * floats, (from + count) * floats)
    this.writes.note(to, count)
  }

  #reserve(pages: number): void {
    if (pages <= this.#capacity) return
    // Memory that was never written takes no room, so growing far ahead costs nothing and seldom copies.
    const capacity = Math.max(pages, this.#capacity * 2, LEAST)
    let grown: { table: { floats: number; data: Float32Array }; data: Float32Array }[]
    try {
      grown = [...this.#tables.values()].map((table) => {
        const data = shared(capacity * table.floats)
        data.set(table.data.subarray(0, this.#used * table.floats))
        return { table, data }
      })
    } catch (cause) {
      throw new GraftError(
        'ERR_BANK_FULL',
        expected('pages in use', `at most ${this.#capacity}`, pages),
        { cause },
      )
    }
    for (const { table, data } of grown) table.data = data
    this.#capacity = capacity
  }
}

const LEAST = 64

/** Shared, so that another thread may fill it. */
const shared = (floats: number): Float32Array => new Float32Array(new SharedArrayBuffer(floats * 4))

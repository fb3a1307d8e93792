import { type RowRange, type RowTables, Writes } from './writes.ts'

/**
 * One vector per entry and key; entry 0 is neutral (ones for factors, zeros for terms). Entries are gathered by index,
 * so freed ones are reused and nothing moves.
 */
export class VectorTable implements RowTables {
  readonly writes = new Writes()
  #tables = new Map<string, { width: number; neutral: number; data: Float32Array }>()
  #free: number[] = []
  #entries = 0
  #capacity = 0

  constructor(columns: Iterable<{ key: string; width: number; neutral: number }>) {
    for (const { key, width, neutral } of columns)
      this.#tables.set(key, { width, neutral, data: new Float32Array(0) })
    this.add(() => undefined)
  }

  get entries(): number {
    return this.#entries
  }

  /** @returns the entry's index */
  add(fill: (key: string) => Float32Array | undefined): number {
    const entry = this.#free.pop() ?? this.#entries++
    this.#reserve(this.#entries)
    for (const [key, { width, neutral, data }] of this.#tables) {
      const values = fill(key)
      if (values) data.set(values, entry * width)
      else data.fill(neutral, entry * width, (entry + 1) * width)
    }
    this.writes.note(entry, 1)
    return entry
  }

  remove(entry: number): void {
    this.#free.push(entry)
  }

  get used(): number {
    return this.#entries
  }

  rows(key: string, { first, count }: RowRange): Float32Array {
    const { width, data } = this.#tables.get(key)!
    return data.subarray(first * width, (first + count) * width)
  }

  /** [entries, width]. */
  view(key: string): Float32Array {
    const { width, data } = this.#tables.get(key)!
    return data.subarray(0, this.#entries * width)
  }

  keys(): IterableIterator<string> {
    return this.#tables.keys()
  }

  width(key: string): number {
    return this.#tables.get(key)!.width
  }

  #reserve(entries: number): void {
    if (entries <= this.#capacity) return
    const before = this.#capacity
    this.#capacity = Math.max(entries, before * 2, 2)
    for (const table of this.#tables.values()) {
      const grown = new Float32Array(this.#capacity * table.width)
      grown.set(table.data.subarray(0, before * table.width))
      table.data = grown
    }
  }
}

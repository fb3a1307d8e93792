/** Positions of one page: few are wasted at a sequence's end, and a page is long enough to keep the lists short. */
export const PAGE_TOKENS = 16

/** Pages that hold so many positions. */
export const pagesFor = (positions: number): number => Math.ceil(positions / PAGE_TOKENS)

/** Which pages of a pool are free. Holds no keys and values itself. */
export class KvPages {
  /** Highest first: the lowest page is handed out first. */
  readonly #free: number[] = []
  #pages = 0

  /** Pages of the pool, free ones included. */
  get pages(): number {
    return this.#pages
  }

  get free(): number {
    return this.#free.length
  }

  /** Adds free pages behind the ones there are. */
  grow(pages: number): void {
    this.give(Array.from({ length: pages - this.#pages }, (_, i) => this.#pages + i))
    this.#pages = pages
  }

  /** @param count at most as many as are free */
  take(count: number): number[] {
    return Array.from({ length: count }, () => this.#free.pop()!)
  }

  give(pages: readonly number[]): void {
    this.#free.push(...pages)
    this.#free.sort((a, b) => b - a)
  }
}

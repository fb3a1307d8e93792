/** Positions of one page: few are wasted at a sequence's end, and a page is long enough to keep the lists short. */
export const PAGE_TOKENS = 16

/** Which pages of one pool each slot's positions stand in. Holds no keys and values itself. */
export class KvPages {
  readonly #owned: number[][]
  readonly #free: number[] = []
  #pages = 0

  constructor(slots: number) {
    this.#owned = Array.from({ length: slots }, () => [])
  }

  /** Pages of the pool, free ones included. */
  get pages(): number {
    return this.#pages
  }

  /** Adds free pages behind the ones there are. */
  grow(pages: number): void {
    // The lowest page is handed out first, as pop takes the last.
    for (let page = pages - 1; page >= this.#pages; page--) this.#free.unshift(page)
    this.#free.sort((a, b) => b - a)
    this.#pages = Math.max(this.#pages, pages)
  }

  /** @returns pages that the pool lacks for `positions` in the slot; 0 when they are the slot's now */
  reserve(slot: number, positions: number): number {
    const owned = this.#owned[slot]!
    const wanted = Math.ceil(positions / PAGE_TOKENS) - owned.length
    if (wanted > this.#free.length) return wanted - this.#free.length
    for (let i = 0; i < wanted; i++) owned.push(this.#free.pop()!)
    return 0
  }

  /** Gives the slot's pages back. */
  release(slot: number): void {
    const pages = this.#owned[slot]!
    this.#owned[slot] = []
    this.#free.push(...pages)
    this.#free.sort((a, b) => b - a)
  }

  /** Pages of the slot, the one of position 0 first. */
  of(slot: number): readonly number[] {
    return this.#owned[slot]!
  }
}

/**
 * What a load costs besides its bytes (round trips, parsing, checks), as bytes that could be moved meanwhile. It makes
 * order of use weigh by size: what is small is cheap to keep and nearly as dear to fetch again.
 */
const LOAD_OVERHEAD_BYTES = 1024 * 1024

interface Item {
  bytes: number
  pins: number
  /** The item with the least credit leaves first. */
  credit: number
}

/**
 * Book-keeping of one tier: what stands there, what is on its way there, and who leaves for whom, within a number of
 * bytes that is never passed. Order is GreedyDual-Size (Cao and Irani 1997): least recently used where sizes are alike.
 * It holds no bytes itself and waits for nobody.
 */
export class ByteBudget<K> {
  readonly limit: number
  /** In order of use. */
  readonly #items = new Map<K, Item>()
  #used = 0
  /** Credit of the last item that left: what came after it starts above. */
  #floor = 0

  constructor(limit: number) {
    this.limit = limit
  }

  /** Bytes of items and of claims. */
  get used(): number {
    return this.#used
  }

  has(key: K): boolean {
    return this.#items.has(key)
  }

  entries(): { key: K; bytes: number; pins: number }[] {
    return [...this.#items].map(([key, { bytes, pins }]) => ({ key, bytes, pins }))
  }

  /** Marks an item as used now. @returns whether there is one */
  touch(key: K): boolean {
    const item = this.#items.get(key)
    if (!item) return false
    this.#items.delete(key)
    this.#items.set(key, item)
    item.credit = this.#creditOf(item.bytes)
    return true
  }

  /** Holds an item in place and marks it as used; the function lets it go. */
  pin(key: K): (() => void) | null {
    const item = this.#items.get(key)
    if (!item) return null
    this.touch(key)
    item.pins++
    let held = true
    return () => {
      if (!held) return
      held = false
      // Removed meanwhile: its bytes are free only now.
      if (--item.pins === 0 && this.#items.get(key) !== item) this.#used -= item.bytes
    }
  }

  /**
   * Takes bytes for something on its way.
   * @returns what has left for it; null when not even the leaving of everything without a pin gives room: nothing left
   */
  claim(bytes: number): K[] | null {
    let idle = 0
    for (const item of this.#items.values()) if (item.pins === 0) idle += item.bytes
    if (this.#used - idle + bytes > this.limit) return null
    const left: K[] = []
    while (this.#used + bytes > this.limit) {
      const key = this.next()!
      this.remove(key)
      left.push(key)
    }
    this.#used += bytes
    return left
  }

  /** Gives claimed bytes back. */
  cancel(bytes: number): void {
    this.#used -= bytes
  }

  /** Claimed bytes are an item now. One of the same key is replaced, and what held it in place holds the new one. */
  commit(key: K, bytes: number): void {
    const item = this.#items.get(key)
    if (item && item.pins > 0) {
      this.#used -= item.bytes
      item.bytes = bytes
      this.touch(key)
      return
    }
    this.remove(key)
    this.#items.set(key, { bytes, pins: 0, credit: this.#creditOf(bytes) })
  }

  /** An item whose bytes somebody else has granted. */
  add(key: K, bytes: number): void {
    this.#used += bytes
    this.commit(key, bytes)
  }

  /** Takes an item out; the bytes of a pinned one count until its last pin is gone. */
  remove(key: K): void {
    const item = this.#items.get(key)
    if (!item) return
    this.#items.delete(key)
    if (item.pins > 0) return
    this.#used -= item.bytes
    this.#floor = Math.max(this.#floor, item.credit)
  }

  /** The item that would leave next. */
  next(): K | undefined {
    let found: K | undefined
    let least = Number.POSITIVE_INFINITY
    for (const [key, { pins, credit }] of this.#items)
      if (pins === 0 && credit < least) {
        found = key
        least = credit
      }
    return found
  }

  #creditOf(bytes: number): number {
    return this.#floor + 1 + LOAD_OVERHEAD_BYTES / Math.max(bytes, 1)
  }
}

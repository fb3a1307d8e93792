/**
 * Blocks of keys and values that sequences with the same prompt may share, by key, as the cache holds them. Least
 * recently used blocks go first when the budget is full. A key names a block and everything before it, so a block is
 * of use only behind all its predecessors: they are touched with it and never go before it.
 */
export class PrefixStore<Block extends { byteLength: number } = Uint8Array> {
  /** In the order of last use. */
  readonly #blocks = new Map<string, Block>()
  readonly #budgetBytes: number
  readonly #dropped: (block: Block) => void
  #bytes = 0

  /** @param dropped is told of each block that leaves */
  constructor(budgetBytes: number, dropped: (block: Block) => void = () => {}) {
    this.#budgetBytes = budgetBytes
    this.#dropped = dropped
  }

  get heldBytes(): number {
    return this.#bytes
  }

  has(key: string): boolean {
    return this.#blocks.has(key)
  }

  /** The longest run of leading blocks that are stored. */
  leading(keys: readonly string[]): Block[] {
    const missing = keys.findIndex((key) => !this.#blocks.has(key))
    const found = keys.slice(0, missing < 0 ? keys.length : missing)
    // Last block first: predecessors are then the more recently used ones.
    for (const key of found.toReversed()) this.#touch(key)
    return found.map((key) => this.#blocks.get(key)!)
  }

  /** Keeps a block whose predecessors `keys[0 .. index)` may be stored. */
  put(keys: readonly string[], index: number, block: Block): void {
    const key = keys[index]!
    if (this.#blocks.has(key) || block.byteLength > this.#budgetBytes) return
    this.#blocks.set(key, block)
    this.#bytes += block.byteLength
    for (let i = index - 1; i >= 0; i--) this.#touch(keys[i]!)
    while (this.#bytes > this.#budgetBytes) this.#drop(this.#blocks.keys().next().value!)
  }

  #touch(key: string): void {
    const block = this.#blocks.get(key)
    if (!block) return
    this.#blocks.delete(key)
    this.#blocks.set(key, block)
  }

  #drop(key: string): void {
    const block = this.#blocks.get(key)
    if (!block) return
    this.#bytes -= block.byteLength
    this.#blocks.delete(key)
    this.#dropped(block)
  }
}

import { pagesFor } from '../bank/kv-pages.ts'
import { PrefixStore } from '../bank/prefix-store.ts'
import type { PromptPrefix } from '../engine.ts'
import type { DevicePool } from './device-pool.ts'

/** A block of a prompt in pages of its own. */
interface Block {
  pages: number[]
  positions: number
  byteLength: number
}

/** What a slot's sequence may leave behind for others. */
interface Kept extends PromptPrefix {
  pages: readonly number[]
  /** Virtual positions before the first token. */
  virtual: number
  /** First position of block 0: virtual positions that the graph computes belong to it, those of an adapter's K/V do not. */
  begin: number
  /** Blocks that need no storing any more. */
  done: number
}

/** Blocks of prompts, kept on the device for sequences that begin alike. */
export class DeviceBlocks {
  readonly #pool: DevicePool
  readonly #store: PrefixStore<Block>
  readonly #budgetBytes: number
  readonly #kept = new Map<number, Kept>()
  /** Filled, and not copied yet: positions that were written never change while their slot is open. */
  #filled: { kept: Kept; index: number }[] = []

  constructor(pool: DevicePool, budgetBytes: number) {
    this.#pool = pool
    this.#budgetBytes = budgetBytes
    this.#store = new PrefixStore(budgetBytes, ({ pages }) => pool.give(pages))
  }

  /** Stored blocks that a prompt begins with; from now on the slot's own are noted. @returns how many */
  follow(slot: number, kept: Omit<Kept, 'done'>): number {
    const done = this.#store.leading(kept.keys).length
    this.#kept.set(slot, { ...kept, done })
    return done
  }

  /** Copies the blocks that `follow` found into the slot's pages. */
  async restore(slot: number): Promise<void> {
    const kept = this.#kept.get(slot)!
    const pairs = this.#store.leading(kept.keys.slice(0, kept.done)).map((block, index) => ({
      from: { pages: block.pages, from: 0, to: block.positions },
      to: { pages: kept.pages, ...extent(kept, index) },
    }))
    await this.#pool.copy(pairs)
  }

  /** The slot holds so many positions now. */
  note(slot: number, filled: number): void {
    const kept = this.#kept.get(slot)
    if (!kept) return
    for (; kept.done < kept.keys.length; kept.done++) {
      if (extent(kept, kept.done).to > filled) return
      this.#filled.push({ kept, index: kept.done })
    }
    this.#kept.delete(slot)
  }

  /** Nothing more of this slot is kept. */
  forget(slot: number): void {
    this.#kept.delete(slot)
  }

  /** Copies the blocks that were filled since, before their slots are given to others. */
  async store(): Promise<void> {
    const filled = this.#filled
    this.#filled = []
    for (const { kept, index } of filled) {
      const { from, to } = extent(kept, index)
      const count = pagesFor(to - from)
      const byteLength = count * this.#pool.pageBytes
      if (this.#store.has(kept.keys[index]!) || byteLength > this.#budgetBytes) continue
      const block = { pages: await this.#pool.take(count), positions: to - from, byteLength }
      await this.#pool.copy([
        {
          from: { pages: kept.pages, from, to },
          to: { pages: block.pages, from: 0, to: to - from },
        },
      ])
      this.#store.put(kept.keys, index, block)
    }
  }
}

/** Positions of a block in its sequence. */
const extent = ({ begin, virtual, block }: Kept, index: number) => ({
  from: index === 0 ? begin : virtual + index * block,
  to: virtual + (index + 1) * block,
})

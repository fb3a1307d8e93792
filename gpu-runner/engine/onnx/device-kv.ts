import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import type { ModelConfig } from '../../checkpoint/model-config.ts'
import { PAGE_TOKENS, pagesFor } from '../bank/kv-pages.ts'
import type { PromptPrefix } from '../engine.ts'
import { DeviceBlocks } from './device-blocks.ts'
import type { DeviceMemory } from './device-memory.ts'
import { DevicePool } from './device-pool.ts'
import type { KvRows, KvStore } from './kv-store.ts'
import { integers32, type Ort } from './ort.ts'
import { planTogether, type Run, type RunRow } from './plan-runs.ts'

export interface DeviceKvOptions {
  slots: number
  /** Of open sequences. */
  budgetBytes: number
  /** Of blocks that are kept for sequences to come. */
  prefixBudgetBytes: number
}

/** A longer past is read in widths of these, so that few shapes are met. */
const widthOf = (positions: number): number => {
  let width = 64
  while (width < positions) width *= 2
  return width
}

/**
 * K and V in device memory: the graph extends and reads them in place, and the host knows only which rows of the pool
 * belong to which position.
 */
export class DeviceKv implements KvStore {
  readonly #config: ModelConfig
  readonly #pool: DevicePool
  readonly #blocks: DeviceBlocks
  /** Pages of each slot, the one of position 0 first. */
  readonly #owned: number[][]
  /** Positions of an adapter's K and V in each slot. */
  readonly #written: number[]
  readonly #mostPages: number

  private constructor(config: ModelConfig, pool: DevicePool, options: DeviceKvOptions) {
    this.#config = config
    this.#pool = pool
    this.#blocks = new DeviceBlocks(pool, options.prefixBudgetBytes)
    this.#owned = Array.from({ length: options.slots }, () => [])
    this.#written = Array.from({ length: options.slots }, () => 0)
    this.#mostPages = Math.floor(options.budgetBytes / pool.pageBytes)
  }

  static async open(
    config: ModelConfig,
    memory: DeviceMemory,
    options: DeviceKvOptions,
  ): Promise<DeviceKv> {
    return new DeviceKv(config, await DevicePool.open(config, memory), options)
  }

  async reserve(slot: number, positions: number): Promise<void> {
    const owned = this.#owned[slot]!
    const total = pagesFor(positions)
    const wanted = total - owned.length
    if (wanted <= 0) return
    const held = this.#owned.reduce((sum, pages) => sum + pages.length, 0)
    if (total > this.#mostPages)
      throw new GraftError(
        'ERR_PROMPT_TOO_LONG',
        expected(
          'positions of one sequence',
          `at most ${this.#mostPages * PAGE_TOKENS}, the budget of keys and values`,
          positions,
        ),
      )
    if (held + wanted > this.#mostPages)
      throw new GraftError(
        'ERR_OVERLOADED',
        `keys and values of the other sequences hold ${held} of ${this.#mostPages} pages, ${wanted} more are needed for ${positions} positions; try again when some have ended`,
      )
    owned.push(...(await this.#pool.take(wanted)))
  }

  async write(slot: number, rows: KvRows[]): Promise<void> {
    const tokens = rows[0]?.tokens ?? 0
    await this.reserve(slot, tokens)
    const byLayer = new Map(rows.map((row) => [row.layer, row]))
    await this.#pool.write({ pages: this.#owned[slot]!, from: 0, to: tokens }, (table) => {
      const [layer, kind] = table.split('.') as [string, 'k' | 'v']
      return byLayer.get(Number(layer))![kind]
    })
    this.#written[slot] = tokens
  }

  async adopt(slot: number, prefix: PromptPrefix, virtual: number): Promise<number> {
    await this.#blocks.store()
    const [pages, begin] = [this.#owned[slot]!, this.#written[slot]!]
    const count = this.#blocks.follow(slot, { ...prefix, pages, virtual, begin })
    if (count === 0) return 0
    const tokens = count * prefix.block
    await this.reserve(slot, virtual + tokens)
    await this.#blocks.restore(slot)
    return tokens
  }

  plan(rows: RunRow[]): Run[] {
    return planTogether(rows)
  }

  feeds({ rows, tokens }: Run): Record<string, Ort.Tensor> {
    const { heads, kvHeads } = this.#config
    const batch = rows.length
    const group = heads / kvHeads
    const width = widthOf(Math.max(...rows.map((row) => row!.sequence.length)) + tokens)
    const read = new Int32Array(batch * width)
    const write = new Int32Array(batch * tokens)
    const last = new Int32Array(batch * group * tokens)
    for (const [b, entry] of rows.entries()) {
      const { slot, length } = entry!.sequence
      const pages = this.#owned[slot]!
      // Past its end a row reads its own first position, never what an earlier owner of the page left: masked positions
      // weigh 0, and 0 * NaN would still be NaN.
      read.fill(this.#pool.row(pages, 0), b * width, (b + 1) * width)
      for (let c = 0; c < length + tokens; c++) read[b * width + c] = this.#pool.row(pages, c)
      for (let t = 0; t < tokens; t++) {
        write[b * tokens + t] = this.#pool.row(pages, length + t)
        for (let g = 0; g < group; g++) last[(b * group + g) * tokens + t] = length + t
      }
    }
    const feeds: Record<string, Ort.Tensor> = {
      'kv.read': integers32(read, [batch, 1, width]),
      'kv.write': integers32(write, [batch, 1, tokens]),
      'kv.head': integers32(
        Int32Array.from({ length: kvHeads }, (_, h) => h * PAGE_TOKENS),
        [1, kvHeads, 1],
      ),
      'kv.column': integers32(
        Int32Array.from({ length: width }, (_, c) => c),
        [1, 1, 1, width],
      ),
      'kv.last': integers32(last, [batch, 1, group * tokens, 1]),
    }
    for (const [name, table] of this.#pool.tables) feeds[`cache.${name}`] = table
    return feeds
  }

  /** The caches are fetched into the very memory they are fed from. */
  fetches(): Record<string, Ort.Tensor | null> {
    const fetches: Record<string, Ort.Tensor | null> = { logits: null, row_size: null }
    for (const [name, table] of this.#pool.tables) fetches[`present.${name}`] = table
    return fetches
  }

  keep({ rows, tokens }: Run, outputs: Record<string, Ort.Tensor>): boolean[] {
    const size = outputs['row_size']!.data as Float32Array
    return rows.map((entry, b) => {
      const { slot, length } = entry!.sequence
      const finite = Number.isFinite(size[b])
      if (finite) this.#blocks.note(slot, length + tokens)
      else this.#blocks.forget(slot)
      return finite
    })
  }

  /** Nothing to clean: what a sequence left behind is read by nobody before it is written anew. */
  async free(slot: number): Promise<void> {
    await this.#blocks.store()
    this.#blocks.forget(slot)
    this.#pool.give(this.#owned[slot]!)
    this.#owned[slot] = []
    this.#written[slot] = 0
  }

  async dispose(): Promise<void> {
    this.#pool.dispose()
  }
}

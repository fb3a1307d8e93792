import { GraftError } from '@graft/sdk/format/errors.ts'
import type { ModelConfig } from '../../checkpoint/model-config.ts'
import { KvPages, PAGE_TOKENS } from '../bank/kv-pages.ts'
import type { DeviceMemory } from './device-memory.ts'
import type { Ort } from './ort.ts'

/** Pages that a pool starts with. */
const FIRST_PAGES = 64

/** Positions of a list of pages. */
export interface PagePositions {
  pages: readonly number[]
  from: number
  to: number
}

/**
 * Pages of keys and values in device memory: per layer a table of rows [pages * kvHeads * PAGE_TOKENS, headDim], one
 * page's rows for each key head side by side.
 */
export class DevicePool {
  readonly #config: ModelConfig
  readonly #memory: DeviceMemory
  readonly #free = new KvPages()
  /** By `<layer>.<k|v>`. */
  readonly tables = new Map<string, Ort.Tensor>()

  private constructor(config: ModelConfig, memory: DeviceMemory) {
    this.#config = config
    this.#memory = memory
  }

  static async open(config: ModelConfig, memory: DeviceMemory): Promise<DevicePool> {
    const pool = new DevicePool(config, memory)
    await pool.#grow(FIRST_PAGES)
    return pool
  }

  /** Of keys and values of all layers. */
  get pageBytes(): number {
    return 2 * 4 * this.#config.layers * this.#pageRows * this.#config.headDim
  }

  /** Row of a position, first key head; the others follow PAGE_TOKENS rows apart. */
  row(pages: readonly number[], position: number): number {
    const page = pages[Math.floor(position / PAGE_TOKENS)]!
    return page * this.#pageRows + (position % PAGE_TOKENS)
  }

  /** @throws ERR_OVERLOADED when the device has no memory for them */
  async take(count: number): Promise<number[]> {
    const { free, pages } = this.#free
    if (free < count) await this.#grow(Math.max(pages * 2, pages + count - free))
    return this.#free.take(count)
  }

  give(pages: readonly number[]): void {
    this.#free.give(pages)
  }

  /** @param values of one table, [kvHeads, positions, headDim] */
  async write(to: PagePositions, values: (table: string) => Float32Array): Promise<void> {
    await this.#memory.write(this.tables, this.#rows(to), values)
  }

  /** Positions to as many others, on the device. */
  async copy(pairs: { from: PagePositions; to: PagePositions }[]): Promise<void> {
    const rows = (side: 'from' | 'to') => pairs.flatMap((pair) => this.#rows(pair[side]))
    await this.#memory.copy(this.tables, rows('from'), rows('to'))
  }

  dispose(): void {
    for (const table of this.tables.values()) table.dispose()
    this.tables.clear()
  }

  get #pageRows(): number {
    return this.#config.kvHeads * PAGE_TOKENS
  }

  /** Head by head. */
  #rows({ pages, from, to }: PagePositions): number[] {
    const rows: number[] = []
    for (let head = 0; head < this.#config.kvHeads; head++)
      for (let position = from; position < to; position++)
        rows.push(this.row(pages, position) + head * PAGE_TOKENS)
    return rows
  }

  async #grow(pages: number): Promise<void> {
    const rows = pages * this.#pageRows
    try {
      for (let layer = 0; layer < this.#config.layers; layer++)
        for (const kind of ['k', 'v']) {
          const name = `${layer}.${kind}`
          const old = this.tables.get(name)
          this.tables.set(
            name,
            old
              ? await this.#memory.extend(old, rows)
              : await this.#memory.zeros(rows, this.#config.headDim),
          )
        }
    } catch (cause) {
      throw new GraftError(
        'ERR_OVERLOADED',
        `the device has no memory for keys and values of ${pages * PAGE_TOKENS} positions; send less, or start the runner with a smaller budget`,
        { cause },
      )
    }
    this.#free.grow(pages)
  }
}

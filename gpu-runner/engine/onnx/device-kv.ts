import { GraftError } from '@graft/sdk/format/errors.ts'
import type { ModelConfig } from '../../checkpoint/model-config.ts'
import { KvPages, PAGE_TOKENS } from '../bank/kv-pages.ts'
import type { DeviceMemory } from './device-memory.ts'
import type { KvRows, KvStore } from './kv-store.ts'
import { integers32, type Ort } from './ort.ts'
import { planTogether, type Run, type RunRow } from './plan-runs.ts'

/** A longer past is read in widths of these, so that few shapes are met. */
const widthOf = (positions: number): number => {
  let width = 64
  while (width < positions) width *= 2
  return width
}

/** Pages that a pool starts with. */
const FIRST_PAGES = 64

/**
 * K and V in device memory: per layer a table of rows [pages * kvHeads * PAGE_TOKENS, headDim] that the graph extends
 * and reads in place. The host knows only which rows belong to which position.
 */
export class DeviceKv implements KvStore {
  readonly #config: ModelConfig
  readonly #memory: DeviceMemory
  readonly #pages: KvPages
  /** By `<layer>.<k|v>`. */
  readonly #tables = new Map<string, Ort.Tensor>()

  private constructor(config: ModelConfig, memory: DeviceMemory, slots: number) {
    this.#config = config
    this.#memory = memory
    this.#pages = new KvPages(slots)
  }

  static async open(config: ModelConfig, memory: DeviceMemory, slots: number): Promise<DeviceKv> {
    const kv = new DeviceKv(config, memory, slots)
    await kv.#grow(FIRST_PAGES)
    return kv
  }

  async reserve(slot: number, positions: number): Promise<void> {
    const missing = this.#pages.reserve(slot, positions)
    if (missing === 0) return
    await this.#grow(Math.max(this.#pages.pages * 2, this.#pages.pages + missing))
    this.#pages.reserve(slot, positions)
  }

  async write(slot: number, rows: KvRows[]): Promise<void> {
    const tokens = rows[0]?.tokens ?? 0
    await this.reserve(slot, tokens)
    const byLayer = new Map(rows.map((row) => [row.layer, row]))
    const at: number[] = []
    for (let head = 0; head < this.#config.kvHeads; head++)
      for (let position = 0; position < tokens; position++)
        at.push(this.#row(slot, position) + head * PAGE_TOKENS)
    await this.#memory.write(this.#tables, at, (name) => {
      const [layer, kind] = name.split('.') as [string, 'k' | 'v']
      return byLayer.get(Number(layer))![kind]
    })
  }

  /** Blocks are not shared between slots here yet. */
  adopt(): number {
    return 0
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
      // Past its end a row reads its own first position, never what an earlier owner of the page left: masked positions
      // weigh 0, and 0 * NaN would still be NaN.
      read.fill(this.#row(slot, 0), b * width, (b + 1) * width)
      for (let c = 0; c < length + tokens; c++) read[b * width + c] = this.#row(slot, c)
      for (let t = 0; t < tokens; t++) {
        write[b * tokens + t] = this.#row(slot, length + t)
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
    for (const [name, table] of this.#tables) feeds[`cache.${name}`] = table
    return feeds
  }

  /** The caches are fetched into the very memory they are fed from. */
  fetches(): Record<string, Ort.Tensor | null> {
    const fetches: Record<string, Ort.Tensor | null> = { logits: null, row_size: null }
    for (const [name, table] of this.#tables) fetches[`present.${name}`] = table
    return fetches
  }

  keep({ rows }: Run, outputs: Record<string, Ort.Tensor>): boolean[] {
    const size = outputs['row_size']!.data as Float32Array
    return rows.map((_, b) => Number.isFinite(size[b]))
  }

  /** Nothing to clean: what a sequence left behind is read by nobody before it is written anew. */
  free(slot: number): void {
    this.#pages.release(slot)
  }

  async dispose(): Promise<void> {
    for (const table of this.#tables.values()) table.dispose()
    this.#tables.clear()
  }

  /** Rows of one page: its positions for each key head. */
  get #pageRows(): number {
    return this.#config.kvHeads * PAGE_TOKENS
  }

  /** Row of the first key head. */
  #row(slot: number, position: number): number {
    const page = this.#pages.of(slot)[Math.floor(position / PAGE_TOKENS)]!
    return page * this.#pageRows + (position % PAGE_TOKENS)
  }

  async #grow(pages: number): Promise<void> {
    const rows = pages * this.#pageRows
    try {
      for (let layer = 0; layer < this.#config.layers; layer++)
        for (const kind of ['k', 'v']) {
          const name = `${layer}.${kind}`
          const old = this.#tables.get(name)
          this.#tables.set(
            name,
            old
              ? await this.#memory.extend(old, rows)
              : await this.#memory.zeros(rows, this.#config.headDim),
          )
        }
    } catch (cause) {
      throw new GraftError(
        'ERR_PROMPT_TOO_LONG',
        `no device memory for ${pages * PAGE_TOKENS} positions; send less, or start the runner with fewer slots`,
        { cause },
      )
    }
    this.#pages.grow(pages)
  }
}

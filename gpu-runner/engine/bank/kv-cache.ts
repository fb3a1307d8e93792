import { GraftError } from '@graft/sdk/format/errors.ts'
import type { ModelConfig } from '../../checkpoint/model-config.ts'

/** Positions are added in buckets, so that past views stay tight and regrowth is rare. */
const BUCKETS = [64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072]

/** K and V of every open sequence, per layer [slots, kvHeads, capacity, headDim]; a run of slots is one view. */
export class KvCache {
  #keys: Float32Array[] = []
  #values: Float32Array[] = []
  #capacity = 0

  readonly config: ModelConfig
  readonly slots: number

  constructor(config: ModelConfig, slots: number) {
    this.config = config
    this.slots = slots
    this.reserve(BUCKETS[0]!)
  }

  get capacity(): number {
    return this.#capacity
  }

  /** Makes room for `positions` in every slot; grown memory is zero. */
  reserve(positions: number): void {
    if (positions <= this.#capacity) return
    const { layers, kvHeads, headDim } = this.config
    const grown = BUCKETS.find((bucket) => bucket >= positions) ?? positions
    const grow = (old: Float32Array | undefined): Float32Array => {
      const next = new Float32Array(this.slots * kvHeads * grown * headDim)
      if (old)
        for (let row = 0; row < this.slots * kvHeads; row++) {
          const at = row * this.#capacity * headDim
          next.set(old.subarray(at, at + this.#capacity * headDim), row * grown * headDim)
        }
      return next
    }
    try {
      const keys = Array.from({ length: layers }, (_, layer) => grow(this.#keys[layer]))
      const values = Array.from({ length: layers }, (_, layer) => grow(this.#values[layer]))
      this.#keys = keys
      this.#values = values
    } catch (cause) {
      throw new GraftError(
        'ERR_PROMPT_TOO_LONG',
        `no memory for ${grown} positions in each of ${this.slots} slots; send less, or start the runner with fewer slots`,
        { cause },
      )
    }
    this.#capacity = grown
  }

  /** Past rows of slots [first, first + count), [count, kvHeads, capacity, headDim]. */
  view(kind: 'k' | 'v', layer: number, first: number, count: number): Float32Array {
    const { kvHeads, headDim } = this.config
    const slot = kvHeads * this.#capacity * headDim
    const data = (kind === 'k' ? this.#keys : this.#values)[layer]!
    return data.subarray(first * slot, (first + count) * slot)
  }

  /** Writes rows [kvHeads, tokens, headDim] of one slot at `position`. `rows` starts at element `from`. */
  append(
    kind: 'k' | 'v',
    layer: number,
    slot: number,
    position: number,
    tokens: number,
    rows: Float32Array,
    from = 0,
  ): void {
    const { kvHeads, headDim } = this.config
    const data = (kind === 'k' ? this.#keys : this.#values)[layer]!
    for (let head = 0; head < kvHeads; head++) {
      const source = from + head * tokens * headDim
      const target = ((slot * kvHeads + head) * this.#capacity + position) * headDim
      data.set(rows.subarray(source, source + tokens * headDim), target)
    }
  }

  /** Zeroes a slot. Masked positions weigh 0, and 0 * NaN would still be NaN for the slot's next owner. */
  clear(slot: number): void {
    for (let layer = 0; layer < this.config.layers; layer++) {
      this.view('k', layer, slot, 1).fill(0)
      this.view('v', layer, slot, 1).fill(0)
    }
  }
}

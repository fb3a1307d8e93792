import type { ModelConfig } from '../../checkpoint/model-config.ts'
import { KvCache } from '../bank/kv-cache.ts'
import type { KvRows, KvStore } from './kv-store.ts'
import { flags, floats, longs, type Ort } from './ort.ts'
import type { Run } from './plan-runs.ts'
import { isFinite32 } from './row-results.ts'

/** K and V in host memory: the graph reads views of them and gives back the step's own rows, which are appended here. */
export class HostKv implements KvStore {
  readonly batches = 'neighbours'
  readonly #config: ModelConfig
  readonly #cache: KvCache

  constructor(config: ModelConfig, slots: number) {
    this.#config = config
    this.#cache = new KvCache(config, slots)
  }

  reserve(_slot: number, positions: number): void {
    this.#cache.reserve(positions)
  }

  write(slot: number, rows: KvRows[]): void {
    for (const { layer, tokens, k, v } of rows) {
      this.#cache.reserve(tokens)
      this.#cache.append('k', layer, slot, 0, tokens, k)
      this.#cache.append('v', layer, slot, 0, tokens, v)
    }
  }

  /** Past views, what may be attended to, and where the step's own columns begin. */
  feeds({ rows, tokens, firstSlot }: Run): Record<string, Ort.Tensor> {
    const { heads, kvHeads, headDim, layers } = this.#config
    const { capacity } = this.#cache
    const batch = rows.length
    const group = heads / kvHeads
    const width = capacity + tokens
    const visible = new Uint8Array(batch * group * tokens * width)
    for (const [b, entry] of rows.entries()) {
      const past = entry?.sequence.length ?? 0
      for (let t = 0; t < tokens; t++)
        for (let g = 0; g < group; g++) {
          const at = ((b * group + g) * tokens + t) * width
          visible.fill(1, at, at + past)
          visible.fill(1, at + capacity, at + capacity + t + 1)
        }
    }
    const feeds: Record<string, Ort.Tensor> = {
      visible: flags(visible, [batch, 1, group * tokens, width]),
      split: longs(BigInt64Array.of(BigInt(capacity), BigInt(tokens)), [2]),
    }
    const dims = [batch, kvHeads, capacity, headDim]
    for (let layer = 0; layer < layers; layer++)
      for (const kind of ['k', 'v'] as const)
        feeds[`past.${layer}.${kind}`] = floats(
          this.#cache.view(kind, layer, firstSlot, batch),
          dims,
        )
    return feeds
  }

  fetches(): undefined {
    return undefined
  }

  keep({ rows, tokens }: Run, outputs: Record<string, Ort.Tensor>): boolean[] {
    const { kvHeads, headDim, layers } = this.#config
    const rowFloats = kvHeads * tokens * headDim
    const of = (layer: number, kind: 'k' | 'v') =>
      outputs[`new.${layer}.${kind}`]!.data as Float32Array
    for (let layer = 0; layer < layers; layer++)
      for (const kind of ['k', 'v'] as const) {
        const values = of(layer, kind)
        for (const [b, entry] of rows.entries()) {
          if (!entry) continue
          const { slot, length } = entry.sequence
          this.#cache.append(kind, layer, slot, length, tokens, values, b * rowFloats)
        }
      }
    // Whatever overflows earlier reaches the last layer's values as NaN: they tell also where no logits were asked for.
    const last = of(layers - 1, 'v')
    return rows.map((_, b) => isFinite32(last.subarray(b * rowFloats, (b + 1) * rowFloats)))
  }

  free(slot: number, poisoned: boolean): void {
    if (poisoned) this.#cache.clear(slot)
  }

  async dispose(): Promise<void> {}
}

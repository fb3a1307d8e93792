import type { ModelConfig } from '../../checkpoint/model-config.ts'
import { bucketFor } from '../bank/kv-buckets.ts'
import { KvCache } from '../bank/kv-cache.ts'
import type { KvPrecision } from '../bank/kv-format.ts'
import { PrefixStore } from '../bank/prefix-store.ts'
import type { PromptPrefix } from '../engine.ts'
import type { KvRows, KvStore } from './kv-store.ts'
import { levelCapacities } from './level-capacities.ts'
import { flags, floats, kvTensor, longs, type Ort } from './ort.ts'
import { planRuns, type Run, type RunRow, tokensOf } from './plan-runs.ts'
import { isFinite32 } from './row-results.ts'
import { type RunCost, runCost } from './run-cost.ts'

export interface HostKvOptions {
  slots: number
  precision: KvPrecision
  /** Of open sequences. */
  budgetBytes: number
  /** Of blocks that are kept for sequences to come. */
  prefixBudgetBytes: number
}

/** What a slot's sequence may leave behind for others. */
interface Kept extends PromptPrefix {
  /** Virtual positions before the first token. */
  virtual: number
  /** First position of block 0: virtual positions that the graph computes belong to it, those of an adapter's K/V do not. */
  begin: number
  /** Blocks that need no storing any more. */
  done: number
}

/** K and V in host memory: the graph reads views of them and gives back the step's own rows, which are appended here. */
export class HostKv implements KvStore {
  readonly #config: ModelConfig
  readonly #cache: KvCache
  readonly #store: PrefixStore
  readonly #cost: RunCost
  readonly #kept = new Map<number, Kept>()

  constructor(config: ModelConfig, options: HostKvOptions) {
    const { slots, precision, budgetBytes, prefixBudgetBytes } = options
    this.#config = config
    this.#cache = new KvCache({ shape: config, slots, precision, budgetBytes })
    this.#store = new PrefixStore(prefixBudgetBytes)
    this.#cost = runCost(config)
  }

  reserve(slot: number, positions: number): void {
    this.#cache.reserve(slot, positions)
  }

  write(slot: number, rows: KvRows[]): void {
    const tokens = rows[0]?.tokens ?? 0
    this.#cache.reserve(slot, tokens)
    for (const { layer, k, v } of rows) {
      this.#cache.append(slot, 'k', layer, tokens, k)
      this.#cache.append(slot, 'v', layer, tokens, v)
    }
    this.#cache.advance(slot, tokens)
  }

  adopt(slot: number, prefix: PromptPrefix, virtual: number): number {
    const begin = this.#cache.seat(slot)?.filled ?? 0
    const blocks = this.#store.leading(prefix.keys)
    this.#kept.set(slot, { ...prefix, virtual, begin, done: blocks.length })
    if (blocks.length === 0) return 0
    const tokens = blocks.length * prefix.block
    this.#cache.reserve(slot, virtual + tokens)
    for (const [i, piece] of blocks.entries())
      this.#cache.restore(slot, i === 0 ? virtual - begin + prefix.block : prefix.block, piece)
    return tokens
  }

  plan(rows: RunRow[]): Run[] {
    const decode = rows.filter((row) => tokensOf(row) === 1)
    const slots = decode.map(({ sequence: { slot } }) => slot)
    const wanted = levelCapacities(
      slots.map((slot) => {
        const { group, filled } = this.#cache.seat(slot)!
        return { capacity: group.capacity, needs: bucketFor(filled + 1) }
      }),
      this.#cost,
    )
    for (const [i, slot] of slots.entries()) {
      const { capacity } = this.#cache.seat(slot)!.group
      if (wanted[i] !== capacity && this.#cache.fits(wanted[i]!)) this.#cache.move(slot, wanted[i]!)
    }
    for (const group of new Set(slots.map((slot) => this.#cache.seat(slot)!.group)))
      this.#cache.compact(group)
    const placeOf = ({ sequence }: RunRow) => {
      const { group, seat } = this.#cache.seat(sequence.slot)!
      return { capacity: group.capacity, seat }
    }
    return planRuns(rows, placeOf, this.#cost)
  }

  /** Past views, what may be attended to, and where the step's own columns begin. */
  feeds({ rows, tokens, past }: Run): Record<string, Ort.Tensor> {
    const { kvHeads, headDim, layers } = this.#config
    const capacity = past?.capacity ?? 0
    const batch = rows.length
    const width = capacity + tokens
    const visible = new Uint8Array(batch * tokens * width)
    for (const [b, entry] of rows.entries())
      for (let t = 0; t < tokens; t++) {
        const at = (b * tokens + t) * width
        visible.fill(1, at, at + (entry?.sequence.length ?? 0))
        visible.fill(1, at + capacity, at + capacity + t + 1)
      }
    const feeds: Record<string, Ort.Tensor> = {
      visible: flags(visible, [batch, 1, 1, tokens, width]),
      split: longs(BigInt64Array.of(BigInt(capacity), BigInt(tokens)), [2]),
    }
    const dims = [batch, kvHeads, 1, capacity, headDim]
    for (let layer = 0; layer < layers; layer++)
      for (const kind of ['k', 'v'] as const) {
        const { values, scales } = this.#cache.view(past, kind, layer, batch)
        feeds[`past.${layer}.${kind}`] = kvTensor(values, dims)
        if (scales)
          feeds[`past.${layer}.${kind}.scale`] = floats(scales, [batch, kvHeads, 1, 1, capacity])
      }
    return feeds
  }

  fetches(): undefined {
    return undefined
  }

  keep({ rows, tokens }: Run, outputs: Record<string, Ort.Tensor>): boolean[] {
    const { kvHeads, headDim, layers } = this.#config
    const rowFloats = kvHeads * tokens * headDim
    // [2 * layers * B, kvHeads, 1, T, headDim]: of each layer K, then V.
    const values = outputs['new']!.data as Float32Array
    const at = (layer: number, kind: 'k' | 'v', b: number) =>
      ((2 * layer + (kind === 'k' ? 0 : 1)) * rows.length + b) * rowFloats
    return rows.map((entry, b) => {
      // Whatever overflows earlier reaches the last layer's values as NaN: they tell also where no logits were asked for.
      const last = at(layers - 1, 'v', b)
      const finite = isFinite32(values.subarray(last, last + rowFloats))
      if (!entry) return finite
      const { slot } = entry.sequence
      for (let layer = 0; layer < layers; layer++)
        for (const kind of ['k', 'v'] as const)
          this.#cache.append(slot, kind, layer, tokens, values, at(layer, kind, b))
      this.#cache.advance(slot, tokens)
      if (finite) this.#storeBlocks(slot)
      else this.#poison(slot)
      return finite
    })
  }

  free(slot: number, poisoned: boolean): void {
    if (poisoned) this.#poison(slot)
    this.#kept.delete(slot)
    this.#cache.free(slot)
  }

  async dispose(): Promise<void> {}

  #poison(slot: number): void {
    this.#cache.poison(slot)
    this.#kept.delete(slot)
  }

  #storeBlocks(slot: number): void {
    const kept = this.#kept.get(slot)
    if (!kept) return
    const { keys, block, virtual, begin } = kept
    const { filled } = this.#cache.seat(slot)!
    for (; kept.done < keys.length; kept.done++) {
      const end = virtual + (kept.done + 1) * block
      if (end > filled) return
      if (this.#store.has(keys[kept.done]!)) continue
      const piece = this.#cache.read(slot, kept.done === 0 ? begin : end - block, end)
      this.#store.put(keys, kept.done, piece)
    }
    this.#kept.delete(slot)
  }
}

import type { Digest } from '@graft/sdk/format/digest.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import type { ModelConfig } from '../../checkpoint/model-config.ts'
import { bottleneckKey, linearSites, PLACEMENTS } from '../graph/sites.ts'
import { type Variant, widest } from '../graph/variants.ts'
import { assertComposable, sumVectors, type Term } from './combination.ts'
import type { CompiledAdapter } from './compiled-adapter.ts'
import { RowRegion } from './row-region.ts'
import { VectorTable } from './vector-table.ts'

/** How one open sequence uses the bank. */
export interface Binding {
  terms: Term[]
  variant: Variant
  /** Entry of the vector table; 0 = neutral. */
  entry: number
}

/**
 * Adapters in memory, and of these the active ones in the layout that a step reads. `load` takes memory from the
 * budget; `bind` makes rows of what an open sequence needs; the last `unbind` takes them out again.
 */
export class AdapterBank {
  readonly lowRank: RowRegion
  readonly bottlenecks: RowRegion
  readonly vectors: VectorTable
  readonly heads: RowRegion
  readonly #loaded = new Map<Digest, CompiledAdapter>()
  readonly #active = new Map<Digest, number>()
  #bytes = 0

  readonly config: ModelConfig
  readonly budgetBytes: number

  constructor(config: ModelConfig, budgetBytes: number) {
    this.config = config
    this.budgetBytes = budgetBytes
    const sites = linearSites(config)
    const places = Array.from({ length: config.layers }, (_, layer) =>
      PLACEMENTS.map((place) => bottleneckKey(`model.layers.${layer}`, place)),
    ).flat()
    this.lowRank = new RowRegion(
      sites.flatMap(({ path, in: inner, out }): [string, number][] => [
        [`${path}.A`, inner],
        [`${path}.B`, out],
      ]),
    )
    this.bottlenecks = new RowRegion(
      places.flatMap((key): [string, number][] => [
        [`${key}.down`, config.hidden],
        [`${key}.up`, config.hidden],
        [`${key}.down_bias`, 1],
      ]),
    )
    this.vectors = new VectorTable([
      ...sites.flatMap(({ path, in: inner, out }) => [
        { key: `${path}.in_vectors`, width: inner, neutral: 1 },
        { key: `${path}.out_vectors`, width: out, neutral: 1 },
      ]),
      ...places.map((key) => ({ key: `${key}.up_bias`, width: config.hidden, neutral: 0 })),
    ])
    this.heads = new RowRegion([['lm_head.others', config.hidden * config.vocab]], 1)
  }

  get usedBytes(): number {
    return this.#bytes
  }

  load(adapter: CompiledAdapter): void {
    if (this.#loaded.has(adapter.digest)) return
    if (this.#bytes + adapter.bytes > this.budgetBytes)
      throw new GraftError(
        'ERR_BANK_FULL',
        expected(
          'free bank memory',
          `${adapter.bytes} bytes for ${adapter.digest}`,
          this.budgetBytes - this.#bytes,
        ),
      )
    this.#loaded.set(adapter.digest, adapter)
    this.#bytes += adapter.bytes
  }

  unload(digest: Digest): void {
    const adapter = this.#loaded.get(digest)
    if (!adapter) return
    if (this.#active.has(digest))
      throw new GraftError(
        'ERR_BANK_FULL',
        `${digest} is in use by an open sequence; close it before unloading`,
      )
    this.#loaded.delete(digest)
    this.#bytes -= adapter.bytes
  }

  /** @throws ERR_NOT_COMPOSABLE, ERR_MODEL_UNKNOWN for an adapter that was never loaded */
  bind(adapters: { digest: Digest; weight: number }[]): Binding {
    const terms = adapters.map(({ digest, weight }) => {
      const adapter = this.#loaded.get(digest)
      if (!adapter)
        throw new GraftError(
          'ERR_MODEL_UNKNOWN',
          `the adapter ${digest} is not in the bank; load it first`,
        )
      return { adapter, weight }
    })
    assertComposable(terms)
    for (const { adapter } of terms) this.#activate(adapter)
    const variant = widest(terms.map(({ adapter }) => adapter.variant))
    return { terms, variant, entry: this.#addVectors(terms) }
  }

  unbind(binding: Binding): void {
    for (const { adapter } of binding.terms) this.#deactivate(adapter)
    if (binding.entry !== 0) this.vectors.remove(binding.entry)
  }

  #activate(adapter: CompiledAdapter): void {
    const { digest, lowRank, bottleneck, head } = adapter
    const users = this.#active.get(digest) ?? 0
    if (users > 0) {
      this.#active.set(digest, users + 1)
      return
    }
    if (adapter.rank > 0)
      this.lowRank.add(digest, adapter.rank, (key) => {
        const site = lowRank.get(key.slice(0, -2))
        return key.endsWith('.A') ? site?.a : site?.b
      })
    if (bottleneck)
      this.bottlenecks.add(digest, bottleneck.rows, (key) => {
        const [, site, part] = /^(.*)\.(down|up|down_bias)$/.exec(key)!
        const row = bottleneck.sites.get(site!)
        return part === 'down' ? row?.down : part === 'up' ? row?.up : row?.downBias
      })
    if (head) this.heads.add(digest, 1, () => head)
    this.#active.set(digest, 1)
  }

  #deactivate(adapter: CompiledAdapter): void {
    const users = this.#active.get(adapter.digest)! - 1
    if (users > 0) {
      this.#active.set(adapter.digest, users)
      return
    }
    this.#active.delete(adapter.digest)
    if (adapter.rank > 0) this.lowRank.remove(adapter.digest)
    if (adapter.bottleneck) this.bottlenecks.remove(adapter.digest)
    if (adapter.head) this.heads.remove(adapter.digest)
  }

  /** @returns 0 when every vector of the terms is neutral */
  #addVectors(terms: Term[]): number {
    const has = terms.some(
      ({ adapter }) =>
        adapter.outVectors.size > 0 || adapter.inVectors.size > 0 || adapter.bottleneck,
    )
    if (!has) return 0
    return this.vectors.add((key) => {
      const site = key.slice(0, key.lastIndexOf('.'))
      if (key.endsWith('.in_vectors'))
        return sumVectors(terms, (adapter) => adapter.inVectors.get(site))
      if (key.endsWith('.out_vectors'))
        return sumVectors(terms, (adapter) => adapter.outVectors.get(site))
      return terms[0]?.adapter.bottleneck?.sites.get(site)?.upBias
    })
  }
}

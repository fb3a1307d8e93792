import type { Digest } from '@graft/sdk/format/digest.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import type { ModelConfig } from '../../checkpoint/model-config.ts'
import { bottleneckKeys, OWN_VECTORS, type Placement } from '../graph/bottleneck-keys.ts'
import { bottleneckTables } from '../graph/bottleneck-pages.ts'
import { type GroupKind, type LinearGroup, linearGroups } from '../graph/linear-groups.ts'
import { type Variant, widest } from '../graph/variants.ts'
import { assertComposable, sumVectors, type Term } from './combination.ts'
import type { CompiledAdapter } from './compiled-adapter.ts'
import { pageTables } from './low-rank-pages.ts'
import { OwnBank, type OwnEntries } from './own-bank.ts'
import { PageRegion } from './page-region.ts'
import { RowRegion } from './row-region.ts'
import { copyStored } from './stored-table.ts'
import { VectorTable } from './vector-table.ts'

/** How one open sequence uses the bank. */
export interface Binding {
  terms: Term[]
  variant: Variant
  /** Entry of the vector table; 0 = neutral. */
  entry: number
  /** Entry of the bottlenecks' own norms and gates; 0: none. */
  bottleneckEntry: number
  own: OwnEntries
}

/**
 * Adapters in memory, and of these the active ones in the layout that a step reads. `load` takes memory from the
 * budget; `bind` makes rows of what an open sequence needs; the last `unbind` takes them out again.
 */
export class AdapterBank {
  readonly pages: Record<GroupKind, PageRegion>
  /** Bottlenecks without norms and gates of their own. */
  readonly bottleneckPages: Record<Placement, PageRegion>
  /** The others. */
  readonly bottlenecks: RowRegion
  /** [entries, places, vectors * hidden] */
  readonly bottleneckOwn: VectorTable
  readonly own: OwnBank
  readonly vectors: VectorTable
  readonly heads: RowRegion
  readonly #loaded = new Map<Digest, CompiledAdapter>()
  /** By owner of pages and rows. */
  readonly #active = new Map<string, { digest: Digest; users: number }>()
  readonly #groups: ReadonlyMap<string, LinearGroup>
  readonly #byKind: Record<GroupKind, LinearGroup[]>
  readonly #partInputs: ReadonlySet<string>
  #bytes = 0
  #revision = 0

  readonly config: ModelConfig
  readonly budgetBytes: number

  constructor(config: ModelConfig, budgetBytes: number) {
    this.config = config
    this.budgetBytes = budgetBytes
    const places = bottleneckKeys(config)
    const groups = linearGroups(config)
    this.#groups = new Map(groups.map((group) => [group.key, group]))
    const of = (kind: GroupKind) => groups.filter((group) => group.kind === kind)
    this.#byKind = perKind(of)
    this.#partInputs = new Set(
      groups
        .filter(({ parts }) => parts.length > 1)
        .flatMap(({ parts }) => parts.map(({ path }) => `${path}.in_vectors`)),
    )
    this.pages = perKind((kind) => new PageRegion(of(kind).flatMap(pageTables)))
    const at = (place: Placement) =>
      new PageRegion(
        places
          .filter((key) => key.endsWith(`:${place}`))
          .flatMap((key) => bottleneckTables(key, config.hidden)),
      )
    this.bottleneckPages = { attention: at('attention'), ffn: at('ffn') }
    this.bottlenecks = new RowRegion(
      places.flatMap((key): [string, number][] => [
        [`${key}.down`, config.hidden],
        [`${key}.up`, config.hidden],
        [`${key}.down_bias`, 1],
      ]),
    )
    const width = places.length * OWN_VECTORS.length * config.hidden
    this.bottleneckOwn = new VectorTable([{ key: 'bottleneck.own', width, neutral: 0 }])
    this.own = new OwnBank(config)
    this.vectors = new VectorTable([
      ...groups.flatMap(({ key, in: inner, out, parts }) => [
        ...parts.map(({ path }) => ({ key: `${path}.in_vectors`, width: inner, neutral: 1 })),
        { key: `${key}.out_vectors`, width: out, neutral: 1 },
      ]),
    ])
    this.heads = new RowRegion([['lm_head.others', config.hidden * config.vocab]], 1)
  }

  /** Groups of one kind, layer by layer. */
  groupsOf(kind: GroupKind): LinearGroup[] {
    return this.#byKind[kind]
  }

  /** Whether a table holds input vectors of a linear that shares its input with others. */
  isPartInput(table: string): boolean {
    return this.#partInputs.has(table)
  }

  /** Changes whenever what sequences use of the bank does. */
  get revision(): number {
    return this.#revision
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
    if ([...this.#active.values()].some((active) => active.digest === digest))
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
    this.#revision++
    for (const term of terms) this.#activate(term)
    const variant = widest(terms.map(({ adapter }) => adapter.variant))
    const bottleneck = terms[0]?.adapter.bottleneck?.own
    return {
      terms,
      variant,
      entry: this.#addVectors(terms),
      bottleneckEntry: bottleneck ? this.bottleneckOwn.add(() => bottleneck) : 0,
      own: this.own.bind(terms),
    }
  }

  unbind(binding: Binding): void {
    this.#revision++
    for (const term of binding.terms) this.#deactivate(term)
    if (binding.entry !== 0) this.vectors.remove(binding.entry)
    if (binding.bottleneckEntry !== 0) this.bottleneckOwn.remove(binding.bottleneckEntry)
    this.own.unbind(binding.own)
  }

  #activate(term: Term): void {
    const { adapter } = term
    const owner = ownerOf(term)
    const active = this.#active.get(owner)
    if (active) {
      active.users++
      return
    }
    for (const [kind, { count, tables }] of adapter.pages)
      this.pages[kind].add(owner, count, (key, target) => {
        // The weight is folded into the copy of B, so that a step multiplies by nothing more.
        const table = tables.get(key)
        if (table) copyStored(table, target, key.endsWith('.B') ? term.weight : 1)
      })
    for (const [place, { count, tables }] of adapter.plainBottleneck?.places ?? [])
      this.bottleneckPages[place].add(owner, count, (key, target) => {
        const table = tables.get(key)
        if (table) target.set(table)
      })
    const { bottleneck, head } = adapter
    if (bottleneck)
      this.bottlenecks.add(owner, bottleneck.rows, (key) => {
        const [, site, part] = /^(.*)\.(down|up|down_bias)$/.exec(key)!
        const row = bottleneck.sites.get(site!)
        return part === 'down' ? row?.down : part === 'up' ? row?.up : row?.downBias
      })
    if (head) this.heads.add(owner, 1, () => head)
    this.own.activate(owner, adapter.own)
    this.#active.set(owner, { digest: adapter.digest, users: 1 })
  }

  #deactivate(term: Term): void {
    const { adapter } = term
    const owner = ownerOf(term)
    const active = this.#active.get(owner)!
    if (--active.users > 0) return
    this.#active.delete(owner)
    for (const kind of adapter.pages.keys()) this.pages[kind].remove(owner)
    for (const place of adapter.plainBottleneck?.places.keys() ?? [])
      this.bottleneckPages[place].remove(owner)
    if (adapter.bottleneck) this.bottlenecks.remove(owner)
    if (adapter.head) this.heads.remove(owner)
    this.own.deactivate(owner, adapter.own)
  }

  /** @returns 0 when every vector of the terms is neutral */
  #addVectors(terms: Term[]): number {
    const has = terms.some(
      ({ adapter }) => adapter.outVectors.size > 0 || adapter.inVectors.size > 0,
    )
    if (!has) return 0
    return this.vectors.add((key) => {
      const site = key.slice(0, key.lastIndexOf('.'))
      if (key.endsWith('.in_vectors'))
        return sumVectors(terms, (adapter) => adapter.inVectors.get(site))
      return this.#outVectors(terms, site)
    })
  }

  /** A group's factors [out], its parts side by side; undefined where none has any. */
  #outVectors(terms: Term[], key: string): Float32Array | undefined {
    const group = this.#groups.get(key)!
    let whole: Float32Array | undefined
    for (const { path, first } of group.parts) {
      const own = sumVectors(terms, (adapter) => adapter.outVectors.get(path))
      if (!own) continue
      whole ??= new Float32Array(group.out).fill(1)
      whole.set(own, first)
    }
    return whole
  }
}

/** One adapter with one weight has pages of its own. */
export const ownerOf = ({ adapter: { digest }, weight }: Term): string =>
  weight === 1 ? digest : `${digest}*${weight}`

const perKind = <T>(of: (kind: GroupKind) => T): Record<GroupKind, T> => ({
  qkv: of('qkv'),
  o: of('o'),
  gate_up: of('gate_up'),
  down: of('down'),
})

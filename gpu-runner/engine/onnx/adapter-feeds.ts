import { type AdapterBank, ownerOf } from '../bank/adapter-bank.ts'
import type { RowTables } from '../bank/writes.ts'
import { GROUP_KINDS } from '../graph/linear-groups.ts'
import { VECTOR_SIDES, vectorsName } from '../graph/row-vectors.ts'
import { VARIANTS, type Variant } from '../graph/variants.ts'
import type { AdapterRun, Feeds } from './adapter-run.ts'
import { bottleneckFeeds } from './bottleneck-feeds.ts'
import { bottleneckPageFeeds } from './bottleneck-page-feeds.ts'
import { oneAdapterFeeds } from './one-adapter-feeds.ts'
import { flags, longs } from './ort.ts'
import { ownFeeds } from './own-feeds.ts'
import { pageFeeds } from './page-feeds.ts'

/** Adapter inputs of runs. Step after step decodes the same rows: what the last runs were given is kept. */
export class AdapterFeeds {
  readonly #last = new Map<string, Feeds>()
  #revision = -1

  /** @param takeRows [P] the row of each position whose logits are asked for */
  of(run: AdapterRun, takeRows: number[]): Feeds {
    const { bank, variant, rows, tokens } = run
    // Views of memory that the bank has left would keep it.
    if (this.#revision !== bank.revision) this.#last.clear()
    this.#revision = bank.revision
    const key = `${variant} ${tokens} ${rows.map((row) => row?.id ?? '').join()}`
    const known = this.#last.get(key)
    const feeds = known ?? feedsOf(run)
    if (!known) {
      if (this.#last.size === KEPT) this.#last.delete(this.#last.keys().next().value!)
      this.#last.set(key, feeds)
    }
    if (!VARIANTS[variant].heads) return feeds
    return { ...feeds, ...headFeeds(run, takeRows) }
  }
}

/** Runs of one step that decode: one for each capacity of the cache and each stretch of slots. */
const KEPT = 8

function feedsOf(run: AdapterRun): Feeds {
  const { lowRank, oneAdapter, bottlenecks, vectors, own } = VARIANTS[run.variant]
  if (oneAdapter) return oneAdapterFeeds(run)
  return {
    ...(lowRank ? pageFeeds(run) : {}),
    ...(vectors ? vectorFeeds(run) : {}),
    ...(bottlenecks ? bottleneckPageFeeds(run) : {}),
    ...(own ? { ...ownFeeds(run), ...bottleneckFeeds(run) } : {}),
  }
}

/** Tables of the bank that runs of the variant read by `tables.rows`. */
export function tablesRead(bank: AdapterBank, variant: Variant): RowTables[] {
  const { lowRank, bottlenecks, vectors, heads, own } = VARIANTS[variant]
  return [
    ...(lowRank ? Object.values(bank.pages) : []),
    ...(vectors ? [bank.vectors] : []),
    ...(bottlenecks ? Object.values(bank.bottleneckPages) : []),
    ...(heads ? [bank.heads, bank.own.headRows] : []),
    ...(own ? [bank.own.norms, bank.own.shifts, bank.bottlenecks, bank.bottleneckOwn] : []),
  ]
}

function vectorFeeds({ bank, variant, rows, tokens, least, tables }: AdapterRun): Feeds {
  const { partInputs } = VARIANTS[variant]
  const { vectors } = bank
  const feeds: Feeds = {}
  for (const kind of GROUP_KINDS)
    for (const side of VECTOR_SIDES) {
      const name = vectorsName(kind, side)
      const own = rows.flatMap((row, b) =>
        row?.binding.terms.some(({ adapter }) => adapter.vectorsAt.has(name))
          ? Array.from({ length: tokens }, (_, t) => ({
              token: b * tokens + t,
              entry: row.binding.entry,
            }))
          : [],
      )
      // Entry 0 multiplies by ones.
      if (own.length < least) own.push({ token: 0, entry: 0 })
      feeds[`${name}.tokens`] = longs(
        BigInt64Array.from(own, ({ token }) => BigInt(token)),
        [own.length, 1],
      )
      feeds[`${name}.entries`] = longs(
        BigInt64Array.from(own, ({ entry }) => BigInt(entry)),
        [own.length],
      )
    }
  for (const key of vectors.keys())
    if (partInputs || !bank.isPartInput(key))
      feeds[key] = tables.rows(vectors, key, { first: 0, count: vectors.used }, [
        vectors.used,
        vectors.width(key),
      ])
  return feeds
}

/** takeRows [P]: the row that each position asked for belongs to. */
function headFeeds({ bank, rows, least, tables }: AdapterRun, takeRows: number[]): Feeds {
  const region = bank.heads
  const heads = Math.max(region.used, least)
  const positions = Math.max(takeRows.length, least)
  const choice = new Uint8Array(heads * positions)
  const any = new Uint8Array(positions)
  for (const [p, b] of takeRows.entries()) {
    const term = rows[b]?.binding.terms[0]
    if (!term?.adapter.head) continue
    choice[region.offset(ownerOf(term)) * positions + p] = 1
    any[p] = 1
  }
  const { hidden, vocab } = bank.config
  const ownRows = bank.own.headRows
  const count = Math.max(ownRows.used, least)
  return {
    'lm_head.on': flags(Uint8Array.of(any.includes(1) ? 1 : 0), []),
    'lm_head.rows': tables.rows(ownRows, 'lm_head.rows', { first: 0, count }, [count, hidden]),
    'lm_head.others': tables.rows(region, 'lm_head.others', { first: 0, count: heads }, [
      heads,
      hidden,
      vocab,
    ]),
    'lm_head.choice': flags(choice, [heads, positions, 1]),
    'lm_head.any': flags(any, [positions, 1]),
  }
}

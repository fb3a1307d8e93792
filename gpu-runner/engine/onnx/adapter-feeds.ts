import { type AdapterBank, ownerOf } from '../bank/adapter-bank.ts'
import type { RowRegion } from '../bank/row-region.ts'
import { GROUP_KINDS } from '../graph/linear-groups.ts'
import { VECTOR_SIDES, vectorsOn } from '../graph/row-vectors.ts'
import { VARIANTS, type Variant } from '../graph/variants.ts'
import { bottleneckFeeds } from './bottleneck-feeds.ts'
import { flags, floats, longs, type Ort } from './ort.ts'
import { ownFeeds } from './own-feeds.ts'
import { pageFeeds } from './page-feeds.ts'
import type { Sequence } from './sequence.ts'

type Feeds = Record<string, Ort.Tensor>

/**
 * Adapter inputs of one run.
 * @param rows [B] open sequences, null for a gap that only fills the view
 * @param tokens T of each row
 * @param least fewest rows of an input
 */
export function adapterFeeds(
  bank: AdapterBank,
  variant: Variant,
  rows: (Sequence | null)[],
  tokens: number,
  takeRows: number[],
  least: 0 | 1,
): Feeds {
  const feeds: Feeds = {}
  const { lowRank, pageSums, rich, heads, own } = VARIANTS[variant]
  if (lowRank) Object.assign(feeds, pageFeeds(bank, rows, tokens, pageSums, least))
  if (rich)
    Object.assign(
      feeds,
      vectorFeeds(bank, rows, tokens, VARIANTS[variant].partInputs, least),
      bottleneckFeeds(bank, rows, tokens, least),
    )
  if (heads) Object.assign(feeds, headFeeds(bank, rows, takeRows, least))
  if (own) Object.assign(feeds, ownFeeds(bank, rows, tokens, least))
  return feeds
}

/** The table's rows in use, or as many rows of zeros where that is none and some are needed. */
const rowsOf = (region: RowRegion, key: string, rows: number): Float32Array =>
  region.used === rows ? region.view(key) : new Float32Array(rows * region.width(key))

function vectorFeeds(
  bank: AdapterBank,
  rows: (Sequence | null)[],
  tokens: number,
  partInputs: boolean,
  least: 0 | 1,
): Feeds {
  const { vectors } = bank
  const entries = rows.flatMap((row) => Array<number>(tokens).fill(row?.binding.entry ?? 0))
  const own = entries.flatMap((entry, token) => (entry === 0 ? [] : [token]))
  // Entry 0 multiplies by ones.
  if (own.length < least) own.push(0)
  const feeds: Feeds = {
    'vectors.tokens': longs(BigInt64Array.from(own, BigInt), [own.length, 1]),
    'vectors.entries': longs(
      BigInt64Array.from(own, (token) => BigInt(entries[token]!)),
      [own.length],
    ),
  }
  for (const kind of GROUP_KINDS)
    for (const side of VECTOR_SIDES) {
      const on = rows.some((row) =>
        row?.binding.terms.some(({ adapter }) => adapter.vectorsAt.has(vectorsOn(kind, side))),
      )
      feeds[vectorsOn(kind, side)] = flags(Uint8Array.of(on ? 1 : 0), [])
    }
  for (const key of vectors.keys())
    if (partInputs || !bank.isPartInput(key))
      feeds[key] = floats(vectors.view(key), [vectors.entries, vectors.width(key)])
  return feeds
}

/** takeRows [P]: the row that each position asked for belongs to. */
function headFeeds(
  bank: AdapterBank,
  rows: (Sequence | null)[],
  takeRows: number[],
  least: 0 | 1,
): Feeds {
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
    'lm_head.rows': floats(rowsOf(ownRows, 'lm_head.rows', count), [count, hidden]),
    'lm_head.others': floats(rowsOf(region, 'lm_head.others', heads), [heads, hidden, vocab]),
    'lm_head.choice': flags(choice, [heads, positions, 1]),
    'lm_head.any': flags(any, [positions, 1]),
  }
}

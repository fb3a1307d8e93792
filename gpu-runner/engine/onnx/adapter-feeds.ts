import { type AdapterBank, ownerOf } from '../bank/adapter-bank.ts'
import type { RowRegion } from '../bank/row-region.ts'
import { GRAPH_ACTIVATIONS } from '../graph/bottleneck-site.ts'
import { PLACEMENTS } from '../graph/sites.ts'
import { VARIANTS, type Variant } from '../graph/variants.ts'
import { flags, floats, longs, type Ort } from './ort.ts'
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
  const { lowRank, pageSums, rich, heads } = VARIANTS[variant]
  if (lowRank) Object.assign(feeds, pageFeeds(bank, rows, tokens, pageSums, least))
  if (rich)
    Object.assign(
      feeds,
      vectorFeeds(bank, rows, tokens, VARIANTS[variant].partInputs, least),
      bottleneckFeeds(bank, rows, tokens, least),
    )
  if (heads) Object.assign(feeds, headFeeds(bank, rows, takeRows, least))
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
    'vector.row': longs(BigInt64Array.from(entries, BigInt), [entries.length]),
    'vectors.tokens': longs(BigInt64Array.from(own, BigInt), [own.length, 1]),
    'vectors.entries': longs(
      BigInt64Array.from(own, (token) => BigInt(entries[token]!)),
      [own.length],
    ),
  }
  for (const key of vectors.keys())
    if (partInputs || !bank.isPartInput(key))
      feeds[key] = floats(vectors.view(key), [vectors.entries, vectors.width(key)])
  return feeds
}

function bottleneckFeeds(
  bank: AdapterBank,
  rows: (Sequence | null)[],
  tokens: number,
  least: 0 | 1,
): Feeds {
  const region = bank.bottlenecks
  const used = Math.max(region.used, least)
  const all = rows.length * tokens
  const mask = new Uint8Array(all * used)
  const is = new Map(GRAPH_ACTIVATIONS.map((name) => [name, new Uint8Array(used)]))
  const after = { attention: new Uint8Array(all), ffn: new Uint8Array(all) }
  for (const [b, row] of rows.entries()) {
    const term = row?.binding.terms[0]
    if (!term?.adapter.bottleneck) continue
    const { rows: own, activation, afterAdd } = term.adapter.bottleneck
    const at = region.offset(ownerOf(term))
    is.get(activation)?.fill(1, at, at + own)
    for (let token = b * tokens; token < (b + 1) * tokens; token++)
      mask.fill(1, token * used + at, token * used + at + own)
    for (const place of PLACEMENTS)
      after[place].fill(afterAdd[place] ? 1 : 0, b * tokens, (b + 1) * tokens)
  }
  const feeds: Feeds = { 'bottleneck.mask': flags(mask, [all, used]) }
  for (const [name, data] of is) feeds[`bottleneck.is_${name}`] = flags(data, [1, used])
  for (const place of PLACEMENTS)
    feeds[`bottleneck.${place}.after_add`] = flags(after[place], [all, 1])
  for (const key of region.keys())
    feeds[key] = floats(
      rowsOf(region, key, used),
      region.width(key) === 1 ? [used] : [used, region.width(key)],
    )
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
  const positions = takeRows.length
  const choice = new Uint8Array(heads * positions)
  const any = new Uint8Array(positions)
  for (const [p, b] of takeRows.entries()) {
    const term = rows[b]?.binding.terms[0]
    if (!term?.adapter.head) continue
    choice[region.offset(ownerOf(term)) * positions + p] = 1
    any[p] = 1
  }
  const { hidden, vocab } = bank.config
  return {
    'lm_head.others': floats(rowsOf(region, 'lm_head.others', heads), [heads, hidden, vocab]),
    'lm_head.choice': flags(choice, [heads, positions, 1]),
    'lm_head.any': flags(any, [positions, 1]),
  }
}

import type { AdapterBank } from '../bank/adapter-bank.ts'
import type { RowRegion } from '../bank/row-region.ts'
import { GRAPH_ACTIVATIONS } from '../graph/bottleneck-site.ts'
import { PLACEMENTS } from '../graph/sites.ts'
import { VARIANTS, type Variant } from '../graph/variants.ts'
import { flags, floats, longs, type Ort } from './ort.ts'
import type { Sequence } from './sequence.ts'

type Feeds = Record<string, Ort.Tensor>

/** Adapter inputs of one run: rows [B] of open sequences, null for a gap that only fills the view. */
export function adapterFeeds(
  bank: AdapterBank,
  variant: Variant,
  rows: (Sequence | null)[],
  takeRows: number[],
  least: 0 | 1,
): Feeds {
  const feeds: Feeds = {}
  const { lowRank, rich, head } = VARIANTS[variant]
  if (lowRank) Object.assign(feeds, lowRankFeeds(bank, rows, least))
  if (rich) Object.assign(feeds, vectorFeeds(bank, rows), bottleneckFeeds(bank, rows, least))
  if (head) Object.assign(feeds, headFeeds(bank, rows, takeRows))
  return feeds
}

function lowRankFeeds(bank: AdapterBank, rows: (Sequence | null)[], least: 0 | 1): Feeds {
  const region = bank.lowRank
  const used = Math.max(region.used, least)
  const mask = new Uint8Array(rows.length * used)
  const scale = new Float32Array(rows.length * used)
  for (const [b, row] of rows.entries())
    for (const { adapter, weight } of row?.binding.terms ?? []) {
      if (adapter.rank === 0) continue
      const at = b * used + region.offset(adapter.digest)
      mask.fill(1, at, at + adapter.rank)
      // The same adapter may stand in a sum twice.
      for (let r = 0; r < adapter.rank; r++) scale[at + r]! += weight
    }
  const feeds: Feeds = {
    'low_rank.mask': flags(mask, [rows.length, 1, used]),
    'low_rank.scale': floats(scale, [rows.length, 1, used]),
  }
  for (const key of region.keys())
    feeds[key] = floats(rowsOf(region, key, used), [used, region.width(key)])
  return feeds
}

/** The table's rows in use, or as many rows of zeros where that is none and some are needed. */
const rowsOf = (region: RowRegion, key: string, rows: number): Float32Array =>
  region.used === rows ? region.view(key) : new Float32Array(rows * region.width(key))

function vectorFeeds(bank: AdapterBank, rows: (Sequence | null)[]): Feeds {
  const { vectors } = bank
  const entry = BigInt64Array.from(rows, (row) => BigInt(row?.binding.entry ?? 0))
  const feeds: Feeds = { 'vector.row': longs(entry, [rows.length, 1]) }
  for (const key of vectors.keys())
    feeds[key] = floats(vectors.view(key), [vectors.entries, vectors.width(key)])
  return feeds
}

function bottleneckFeeds(bank: AdapterBank, rows: (Sequence | null)[], least: 0 | 1): Feeds {
  const region = bank.bottlenecks
  const used = Math.max(region.used, least)
  const mask = new Uint8Array(rows.length * used)
  const is = new Map(GRAPH_ACTIVATIONS.map((name) => [name, new Uint8Array(used)]))
  const after = { attention: new Uint8Array(rows.length), ffn: new Uint8Array(rows.length) }
  for (const [b, row] of rows.entries()) {
    const adapter = row?.binding.terms[0]?.adapter
    if (!adapter?.bottleneck) continue
    const at = region.offset(adapter.digest)
    mask.fill(1, b * used + at, b * used + at + adapter.bottleneck.rows)
    is.get(adapter.bottleneck.activation)?.fill(1, at, at + adapter.bottleneck.rows)
    for (const place of PLACEMENTS) after[place][b] = adapter.bottleneck.afterAdd[place] ? 1 : 0
  }
  const feeds: Feeds = { 'bottleneck.mask': flags(mask, [rows.length, 1, used]) }
  for (const [name, data] of is) feeds[`bottleneck.is_${name}`] = flags(data, [1, 1, used])
  for (const place of PLACEMENTS)
    feeds[`bottleneck.${place}.after_add`] = flags(after[place], [rows.length, 1, 1])
  for (const key of region.keys())
    feeds[key] = floats(
      rowsOf(region, key, used),
      region.width(key) === 1 ? [used] : [used, region.width(key)],
    )
  return feeds
}

/** takeRows [P]: the row that each position asked for belongs to. */
function headFeeds(bank: AdapterBank, rows: (Sequence | null)[], takeRows: number[]): Feeds {
  const region = bank.heads
  const heads = region.used
  const positions = takeRows.length
  const choice = new Uint8Array(heads * positions)
  const any = new Uint8Array(positions)
  for (const [p, b] of takeRows.entries()) {
    const adapter = rows[b]?.binding.terms[0]?.adapter
    if (!adapter?.head) continue
    choice[region.offset(adapter.digest) * positions + p] = 1
    any[p] = 1
  }
  const { hidden, vocab } = bank.config
  return {
    'lm_head.others': floats(region.view('lm_head.others'), [heads, hidden, vocab]),
    'lm_head.choice': flags(choice, [heads, positions, 1]),
    'lm_head.any': flags(any, [positions, 1]),
  }
}

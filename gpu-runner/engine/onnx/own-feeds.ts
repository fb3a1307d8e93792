import { type AdapterBank, ownerOf } from '../bank/adapter-bank.ts'
import type { RowRegion } from '../bank/row-region.ts'
import type { VectorTable } from '../bank/vector-table.ts'
import { linearSites } from '../graph/sites.ts'
import type { AdapterRun, Feeds } from './adapter-run.ts'
import type { BankTables } from './bank-tables.ts'
import { flags, floats, longs } from './ort.ts'
import type { Sequence } from './sequence.ts'

/**
 * Inputs of own norms, shifts and linears; see graph/own-tensors.ts. What no row has is one place that nobody reads,
 * since its branch is off.
 */
export function ownFeeds({ bank, rows, tokens, least, tables }: AdapterRun): Feeds {
  const { norms, shifts } = bank.own
  return {
    ...entryFeeds('norms', norms, rows, tokens, tables),
    ...entryFeeds('shifts', shifts, rows, tokens, tables),
    ...linearFeeds(bank, rows, tokens, least),
  }
}

function entryFeeds(
  kind: 'norms' | 'shifts',
  table: VectorTable,
  rows: (Sequence | null)[],
  tokens: number,
  tables: BankTables,
): Feeds {
  const own: bigint[] = []
  const entries: bigint[] = []
  for (const [b, row] of rows.entries()) {
    const entry = row?.binding.own[kind] ?? 0
    for (let t = 0; entry !== 0 && t < tokens; t++) {
      own.push(BigInt(b * tokens + t))
      entries.push(BigInt(entry))
    }
  }
  const on = own.length > 0
  const key = `own.${kind}`
  return {
    [`${key}.on`]: flags(Uint8Array.of(on ? 1 : 0), []),
    [`${key}.tokens`]: longs(BigInt64Array.from(on ? own : [0n]), [on ? own.length : 1, 1]),
    [`${key}.entries`]: longs(BigInt64Array.from(on ? entries : [0n]), [on ? own.length : 1]),
    [key]: tables.rows(table, key, { first: 0, count: table.used }, [table.used, table.width(key)]),
  }
}

/** A product of one row has a kernel of its own, so a second row of the same adapter would change the first one's bits. */
const LEAST_PLACES = 2

function linearFeeds(
  bank: AdapterBank,
  rows: (Sequence | null)[],
  tokens: number,
  least: 0 | 1,
): Feeds {
  // By adapter that replaces a linear: the tokens of its rows.
  const readers = new Map<string, number[]>()
  for (const [b, row] of rows.entries()) {
    const term = row?.binding.terms[0]
    if (!term || term.adapter.own.linears.size === 0) continue
    const owner = ownerOf(term)
    const own = readers.get(owner) ?? []
    for (let t = 0; t < tokens; t++) own.push(b * tokens + t)
    readers.set(owner, own)
  }
  const adapters = [...readers.keys()]
  const places = Math.max(LEAST_PLACES, ...[...readers.values()].map(({ length }) => length))
  const table = new BigInt64Array(Math.max(1, adapters.length) * places)
  for (const [a, own] of [...readers.values()].entries())
    for (let j = 0; j < places; j++) table[a * places + j] = BigInt(own[j] ?? own[0]!)
  const feeds: Feeds = {
    'own.linears.on': flags(Uint8Array.of(adapters.length > 0 ? 1 : 0), []),
    'own.linears.tokens': longs(table, [table.length / places, places]),
  }
  for (const { path, in: inner, out } of linearSites(bank.config)) {
    const region = bank.own.linears.get(path)!
    const own = adapters.filter((owner) => region.has(owner))
    own.sort((a, b) => region.offset(a) - region.offset(b))
    feeds[`${path}.own_on`] = flags(Uint8Array.of(own.length > 0 ? 1 : 0), [])
    const count = Math.max(own.length, least)
    const data = own.length > 0 ? matrices(region, `${path}.own`, own) : zeros(count * inner * out)
    feeds[`${path}.own`] = floats(data, [count, inner, out])
    feeds[`${path}.own_adapters`] = longs(
      BigInt64Array.from({ length: count }, (_, i) =>
        BigInt(Math.max(0, adapters.indexOf(own[i] ?? ''))),
      ),
      [count],
    )
  }
  return feeds
}

/** Rows of some owners, in their order: a view where they stand side by side, else a copy. */
function matrices(region: RowRegion, key: string, owners: string[]): Float32Array {
  const width = region.width(key)
  const rows = owners.map((owner) => region.offset(owner))
  const whole = region.view(key)
  const first = rows[0]!
  if (rows.every((row, i) => row === first + i))
    return whole.subarray(first * width, (first + rows.length) * width)
  const copy = new Float32Array(rows.length * width)
  for (const [i, row] of rows.entries())
    copy.set(whole.subarray(row * width, (row + 1) * width), i * width)
  return copy
}

/** Never read; kept, since a run may need one for every linear of a base. */
let blank = new Float32Array(0)
function zeros(floats: number): Float32Array {
  if (blank.length < floats) blank = new Float32Array(floats)
  return blank.subarray(0, floats)
}

import { type AdapterBank, ownerOf } from '../bank/adapter-bank.ts'
import type { PageRange, PageRegion } from '../bank/page-region.ts'
import { GROUP_KINDS, type LinearGroup } from '../graph/linear-groups.ts'
import { PAGE_RANK } from '../graph/low-rank-pages.ts'
import type { AdapterRun, Feeds } from './adapter-run.ts'
import type { BankTables } from './bank-tables.ts'
import { longs } from './ort.ts'
import { placesOf, type Readers, readerFeeds, readers, sumFeeds } from './page-readers.ts'
import type { Sequence } from './sequence.ts'

/** Low-rank inputs of one run; see graph/low-rank-pages.ts for their meaning. */
export function pageFeeds({ bank, rows, tokens, least, tables }: AdapterRun): Feeds {
  const feeds: Feeds = {}
  for (const kind of GROUP_KINDS) {
    const region = bank.pages[kind]
    const read = pagesRead(bank, kind, rows, tokens)
    const group = bank.groupsOf(kind)[0]!
    const table = readers(read, tables.fromStart, least, tokens > 1)
    for (const [name, tensor] of Object.entries({
      ...tableFeeds(table, group),
      ...sumFeeds(table, group.out / group.chunk, least),
    }))
      feeds[`${kind}.pages.${name}`] = tensor
    for (const each of bank.groupsOf(kind))
      Object.assign(feeds, weightFeeds(tables, region, each, table.range))
  }
  return feeds
}

/** Pages by token, in the order of the token's terms. */
function pagesRead(
  bank: AdapterBank,
  kind: (typeof GROUP_KINDS)[number],
  rows: (Sequence | null)[],
  tokens: number,
): number[][] {
  return rows.flatMap((row) => {
    const pages = (row?.binding.terms ?? []).flatMap((term) => {
      if (!term.adapter.pages.has(kind)) return []
      const { first, count } = bank.pages[kind].pagesOf(ownerOf(term))
      return Array.from({ length: count }, (_, i) => first + i)
    })
    return Array<number[]>(tokens).fill(pages)
  })
}

function tableFeeds(table: Readers, group: LinearGroup): Feeds {
  const { tokens } = table
  const [pages, i, j] = placesOf(table)
  const chunks = group.out / group.chunk
  const feeds: Feeds = readerFeeds(table, chunks > 1)
  const byChunk = (of: (at: number, chunk: number) => number): BigInt64Array => {
    const values = new BigInt64Array(tokens.length * chunks)
    let next = 0
    for (let row = 0; row < pages * i; row++)
      for (let c = 0; c < chunks; c++)
        for (let column = 0; column < j; column++) values[next++] = BigInt(of(row * j + column, c))
    return values
  }
  // Read only where every place is taken.
  feeds['put'] = longs(
    byChunk((at, c) => Math.max(0, tokens[at]!) * chunks + c),
    chunks > 1 ? [pages, i, chunks, j, 1] : [pages, i, j, 1],
  )
  return feeds
}

function weightFeeds(
  tables: BankTables,
  region: PageRegion,
  group: LinearGroup,
  range: PageRange,
): Feeds {
  const { key, chunk, parts, out } = group
  const single = out === chunk
  const a = single ? [group.in, PAGE_RANK] : [parts.length, group.in, PAGE_RANK]
  const b = single ? [PAGE_RANK, chunk] : [out / chunk, PAGE_RANK, chunk]
  return {
    [`${key}.A`]: tables.rows(region, `${key}.A`, range, [range.count, 1, ...a]),
    [`${key}.B`]: tables.rows(region, `${key}.B`, range, [range.count, 1, ...b]),
  }
}

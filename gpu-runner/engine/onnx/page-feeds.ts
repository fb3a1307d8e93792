import { type AdapterBank, ownerOf } from '../bank/adapter-bank.ts'
import type { PageRange, PageRegion } from '../bank/page-region.ts'
import { chunkParts, GROUP_KINDS, type LinearGroup } from '../graph/linear-groups.ts'
import { PAGE_RANK } from '../graph/low-rank-pages.ts'
import { flags, floats, longs, type Ort } from './ort.ts'
import type { Sequence } from './sequence.ts'

type Feeds = Record<string, Ort.Tensor>

/** Low-rank inputs of one run; see graph/low-rank-pages.ts for their meaning. */
export function pageFeeds(
  bank: AdapterBank,
  rows: (Sequence | null)[],
  tokens: number,
  sums: boolean,
  least: 0 | 1,
): Feeds {
  const feeds: Feeds = {}
  for (const kind of GROUP_KINDS) {
    const region = bank.pages[kind]
    const read = pagesRead(bank, kind, rows, tokens)
    const group = bank.groupsOf(kind)[0]!
    const summed = sums && read.some((pages) => pages.length > 1)
    const table = readers(read, summed, least, tokens > 1)
    for (const [name, tensor] of Object.entries({
      ...tableFeeds(table, group),
      ...(sums ? sumFeeds(table, chunkParts(group).length, summed, least) : {}),
    }))
      feeds[`${kind}.pages.${name}`] = tensor
    for (const each of bank.groupsOf(kind))
      Object.assign(feeds, weightFeeds(region, each, table.range))
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

/** The pages that a run is given: a view, so all between the first and the last that is read. */
function rangeOf(read: number[][], summed: boolean, least: 0 | 1): PageRange {
  let first = Number.POSITIVE_INFINITY
  let last = -1
  for (const pages of read)
    for (const page of pages) {
      if (page < first) first = page
      if (page > last) last = page
    }
  if (last < 0) return { first: 0, count: least }
  // A sum of pages has page 0, which is zeros, where a token reads fewer than others.
  if (summed) first = 0
  return { first, count: last - first + 1 }
}

interface Readers {
  range: PageRange
  /** m: most tokens that read one page. */
  places: number
  /** Tokens of one prompt, to be multiplied as one matrix. */
  prompt: boolean
  /** [P,m] token, -1 where the place is free. */
  tokens: Int32Array
  /** By token that reads: its places, page * m + place. */
  placesOf: Map<number, number[]>
}

function readers(read: number[][], summed: boolean, least: 0 | 1, prompt: boolean): Readers {
  const range = rangeOf(read, summed, least)
  const most = new Map<number, number>()
  for (const pages of read) for (const page of pages) most.set(page, (most.get(page) ?? 0) + 1)
  const places = Math.max(1, ...most.values())
  // A single page would be multiplied with all its tokens as one matrix; the page before is there, and nobody reads it.
  if (!prompt && range.count === 1 && places > 1 && range.first > 0) {
    range.first--
    range.count++
  }
  const tokens = new Int32Array(range.count * places).fill(-1)
  const taken = new Map<number, number>()
  const placesOf = new Map<number, number[]>()
  for (const [token, pages] of read.entries()) {
    if (pages.length === 0) continue
    const own = pages.map((page) => {
      const place = taken.get(page) ?? 0
      taken.set(page, place + 1)
      return (page - range.first) * places + place
    })
    for (const at of own) tokens[at] = token
    placesOf.set(token, own)
  }
  return { range, places, prompt, tokens, placesOf }
}

function tableFeeds(table: Readers, group: LinearGroup): Feeds {
  const { places, tokens, prompt } = table
  const pages = table.range.count
  const [i, j] = prompt ? [1, places] : [places, 1]
  const parts = chunkParts(group)
  const chunks = parts.length
  const taken = (at: number) => (tokens[at]! < 0 ? 0 : tokens[at]!)
  const feeds: Feeds = {
    tokens: longs(
      BigInt64Array.from(tokens, (_, at) => BigInt(taken(at))),
      [pages, i, j],
    ),
    valid: flags(
      Uint8Array.from(tokens, (token) => (token < 0 ? 0 : 1)),
      [pages, i, j, 1],
    ),
  }
  const byChunk = (of: (at: number, chunk: number) => number): BigInt64Array => {
    const values = new BigInt64Array(pages * places * chunks)
    let next = 0
    for (let row = 0; row < pages * i; row++)
      for (let c = 0; c < chunks; c++)
        for (let column = 0; column < j; column++) values[next++] = BigInt(of(row * j + column, c))
    return values
  }
  if (group.parts.length > 1)
    feeds['parts'] = longs(
      byChunk((at, c) => at * group.parts.length + parts[c]!),
      [pages, i, chunks, j],
    )
  // Places that nobody took add zeros to token 0.
  feeds['put'] = longs(
    byChunk((at, c) => taken(at) * chunks + c),
    chunks > 1 ? [pages, i, chunks, j, 1] : [pages, i, j, 1],
  )
  return feeds
}

/** Which outputs [P*i*C*j, chunk] are summed for each row [tokens*C, chunk] that has any. */
function sumFeeds(
  { range, places, prompt, placesOf }: Readers,
  chunks: number,
  summed: boolean,
  least: 0 | 1,
): Feeds {
  const j = prompt ? places : 1
  const tokens = summed ? [...placesOf.entries()] : []
  const most = Math.max(range.count === 0 ? 0 : 1, ...tokens.map(([, own]) => own.length))
  // Nobody reads page 0: its outputs are zeros.
  if (tokens.length < least) tokens.push([0, []])
  const sum = new BigInt64Array(tokens.length * chunks * most)
  const put = new BigInt64Array(tokens.length * chunks)
  for (const [u, [token, own]] of tokens.entries())
    for (let c = 0; c < chunks; c++) {
      put[u * chunks + c] = BigInt(token * chunks + c)
      for (const [k, at] of own.entries()) {
        const output = (Math.floor(at / j) * chunks + c) * j + (at % j)
        sum[(u * chunks + c) * most + k] = BigInt(output)
      }
    }
  const rows = tokens.length * chunks
  return {
    summed: flags(Uint8Array.of(summed ? 1 : 0), []),
    sum: longs(sum, [rows, most]),
    put_sums: longs(put, [rows, 1]),
  }
}

function weightFeeds(region: PageRegion, group: LinearGroup, range: PageRange): Feeds {
  const { key, chunk, parts, out } = group
  const b = out === chunk ? [1, PAGE_RANK, chunk] : [1, out / chunk, PAGE_RANK, chunk]
  return {
    [`${key}.A`]: floats(region.view(`${key}.A`, range), [
      range.count,
      1,
      group.in,
      parts.length * PAGE_RANK,
    ]),
    [`${key}.B`]: floats(region.view(`${key}.B`, range), [range.count, ...b]),
  }
}

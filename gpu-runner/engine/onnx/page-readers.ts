import type { PageRange } from '../bank/page-region.ts'
import { flags, floats, longs, type Ort } from './ort.ts'

type Feeds = Record<string, Ort.Tensor>

/** Which tokens of a run read which pages. */
export interface Readers {
  range: PageRange
  /** m: most tokens that read one page. */
  places: number
  /** Tokens of one prompt, to be multiplied as one matrix. */
  prompt: boolean
  /** [P,m] token, -1 where the place is free. */
  tokens: Int32Array
  /** By token that reads: its places, page * m + place. */
  byToken: Map<number, number[]>
  /** Some token reads several pages, or some place is free: what is added cannot be named place by place. */
  summed: boolean
}

/**
 * @param read pages by token, in the order they are summed
 * @param fromStart whether the pages given must begin with the bank's first
 */
export function readers(
  read: number[][],
  fromStart: boolean,
  least: 0 | 1,
  prompt: boolean,
): Readers {
  const range = rangeOf(read, fromStart, least)
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
  const byToken = new Map<number, number[]>()
  for (const [token, pages] of read.entries()) {
    if (pages.length === 0) continue
    const own = pages.map((page) => {
      const place = taken.get(page) ?? 0
      taken.set(page, place + 1)
      return (page - range.first) * places + place
    })
    for (const at of own) tokens[at] = token
    byToken.set(token, own)
  }
  const summed = read.some((pages) => pages.length > 1) || tokens.includes(-1)
  return { range, places, prompt, tokens, byToken, summed }
}

/** The pages that a run is given: a view, so all between the first and the last that is read. */
function rangeOf(read: number[][], fromStart: boolean, least: 0 | 1): PageRange {
  const counts = new Set<number>()
  let first = Number.POSITIVE_INFINITY
  let last = -1
  for (const pages of read) {
    if (pages.length > 0) counts.add(pages.length)
    for (const page of pages) {
      if (page < first) first = page
      if (page > last) last = page
    }
  }
  if (last < 0) return { first: 0, count: least }
  // Page 0, which is zeros, is summed where a token reads fewer pages than another.
  if (fromStart || counts.size > 1) first = 0
  return { first, count: last - first + 1 }
}

/** P, i and j of the places, see graph/low-rank-pages.ts. */
export const placesOf = ({ range, places, prompt }: Readers): [number, number, number] =>
  prompt ? [range.count, 1, places] : [range.count, places, 1]

/**
 * Tokens of the places, token 0 where one is free, and which are taken.
 * @param byPart whether a dimension for the parts of a group stands before the last
 */
export function readerFeeds(table: Readers, byPart = false): Feeds {
  const [pages, i, j] = placesOf(table)
  const dims = byPart ? [pages, i, 1, j] : [pages, i, j]
  const { tokens } = table
  return {
    tokens: longs(
      BigInt64Array.from(tokens, (token) => BigInt(Math.max(0, token))),
      dims,
    ),
    valid: flags(
      Uint8Array.from(tokens, (token) => (token < 0 ? 0 : 1)),
      [...dims, 1],
    ),
  }
}

/** Which outputs [P*i*C*j, chunk] are summed, [U,K], for each of U rows [tokens*C, chunk] that have any. */
export function sumFeeds(
  { range, places, prompt, byToken, summed }: Readers,
  chunks: number,
  least: 0 | 1,
): Feeds {
  const j = prompt ? places : 1
  const tokens = summed ? [...byToken.entries()] : []
  const most = Math.max(range.count === 0 ? 0 : 1, ...tokens.map(([, own]) => own.length))
  // Nobody reads page 0: its outputs are zeros. Where nothing is summed the branch is off.
  if (tokens.length < least) tokens.push([0, []])
  const rows = tokens.length * chunks
  const sum = new BigInt64Array(most * rows)
  const put = new BigInt64Array(rows)
  for (const [u, [token, own]] of tokens.entries())
    for (let c = 0; c < chunks; c++) {
      put[u * chunks + c] = BigInt(token * chunks + c)
      for (const [k, at] of own.entries()) {
        const output = (Math.floor(at / j) * chunks + c) * j + (at % j)
        sum[(u * chunks + c) * most + k] = BigInt(output)
      }
    }
  return {
    summed: flags(Uint8Array.of(summed ? 1 : 0), []),
    sum: longs(sum, [rows, most]),
    ones: floats(new Float32Array(rows * most).fill(1), [rows, 1, most]),
    put_sums: longs(put, [rows, 1, 1]),
  }
}

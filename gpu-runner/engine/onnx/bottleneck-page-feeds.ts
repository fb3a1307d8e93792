import { type AdapterBank, ownerOf } from '../bank/adapter-bank.ts'
import { GRAPH_ACTIVATIONS } from '../graph/activations.ts'
import { PLACEMENTS, type Placement } from '../graph/bottleneck-keys.ts'
import { PAGE_RANK } from '../graph/low-rank-pages.ts'
import type { BottleneckReads } from '../graph/traits.ts'
import type { AdapterRun, Feeds } from './adapter-run.ts'
import { flags } from './ort.ts'
import { type Readers, readerFeeds, readers, sumFeeds } from './page-readers.ts'
import type { Sequence } from './sequence.ts'

/** Inputs of the bottlenecks that are pages; see graph/bottleneck-pages.ts. */
export function bottleneckPageFeeds({ bank, rows, tokens, least, tables }: AdapterRun): Feeds {
  const feeds: Feeds = {}
  for (const place of PLACEMENTS) {
    const users = usersOf(bank, rows, place)
    const read = users.flatMap((user) => Array<number[]>(tokens).fill(user?.pages ?? []))
    const table = readers(read, tables.fromStart, least, tokens > 1)
    for (const [name, tensor] of Object.entries({
      ...readerFeeds(table),
      ...sumFeeds({ ...table, summed: true }, 1, least),
      ...readsFeeds(users, tokens),
      ...activationFeeds(table, users),
    }))
      if (name !== 'summed') feeds[`bottleneck.${place}.pages.${name}`] = tensor
    const region = bank.bottleneckPages[place]
    const { hidden } = bank.config
    for (const key of region.keys()) {
      const { count } = table.range
      const dims = key.endsWith('.down')
        ? [count, 1, hidden, PAGE_RANK]
        : key.endsWith('.up')
          ? [count, 1, PAGE_RANK, hidden]
          : [count, 1, 1, PAGE_RANK]
      feeds[key] = tables.rows(region, key, table.range, dims)
    }
  }
  return feeds
}

interface User {
  pages: number[]
  activation: string
  reads: BottleneckReads
}

/** By row; null where it has no bottleneck at the place. */
function usersOf(bank: AdapterBank, rows: (Sequence | null)[], place: Placement): (User | null)[] {
  return rows.map((row) => {
    const term = row?.binding.terms[0]
    const plain = term?.adapter.plainBottleneck
    const own = plain?.places.get(place)
    if (!term || !plain || !own) return null
    const { first, count } = bank.bottleneckPages[place].pagesOf(ownerOf(term))
    const pages = Array.from({ length: count }, (_, i) => first + i)
    return { pages, activation: plain.activation, reads: own.reads }
  })
}

/** What each token's bottleneck reads. */
function readsFeeds(users: (User | null)[], tokens: number): Feeds {
  const of = (reads: BottleneckReads) => {
    const data = new Uint8Array(users.length * tokens)
    for (const [b, user] of users.entries())
      if (user?.reads === reads) data.fill(1, b * tokens, (b + 1) * tokens)
    return flags(data, [data.length, 1])
  }
  return {
    reads_sum: of('sum'),
    reads_stream: of('stream'),
  }
}

function activationFeeds({ range }: Readers, users: (User | null)[]): Feeds {
  const dims = [range.count, 1, 1, PAGE_RANK]
  const is = new Map(
    GRAPH_ACTIVATIONS.map((name) => [name as string, new Uint8Array(range.count * PAGE_RANK)]),
  )
  for (const user of users)
    for (const page of user?.pages ?? []) {
      const at = (page - range.first) * PAGE_RANK
      is.get(user!.activation)?.fill(1, at, at + PAGE_RANK)
    }
  const feeds: Feeds = {}
  for (const [name, data] of is) feeds[`is_${name}`] = flags(data, dims)
  return feeds
}

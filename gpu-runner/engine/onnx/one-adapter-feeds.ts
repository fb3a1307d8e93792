import { ownerOf } from '../bank/adapter-bank.ts'
import { GROUP_KINDS } from '../graph/linear-groups.ts'
import { PAGE_RANK } from '../graph/low-rank-pages.ts'
import type { Traits } from '../graph/traits.ts'
import type { AdapterRun, Feeds } from './adapter-run.ts'
import { floats } from './ort.ts'
import type { Sequence } from './sequence.ts'

/** Whether graph/one-adapter.ts, written for these traits, gives the row what it would get in any other run. */
export function isOneAdapter(rows: readonly (Sequence | null)[], traits: Traits): boolean {
  const [row, ...others] = rows
  const [term, ...terms] = row?.binding.terms ?? []
  if (others.length > 0 || terms.length > 0 || !term) return false
  const { pages } = term.adapter
  return pages.size === traits.kinds.size
}

/** Inputs of a run under one adapter: its pages, as they lie in the bank. */
export function oneAdapterFeeds({ bank, rows, tables }: AdapterRun): Feeds {
  const term = rows[0]!.binding.terms[0]!
  const feeds: Feeds = {}
  for (const kind of GROUP_KINDS) {
    if (!term.adapter.pages.has(kind)) continue
    const region = bank.pages[kind]
    const range = region.pagesOf(ownerOf(term))
    const { count } = range
    feeds[`${kind}.ones`] = floats(new Float32Array(count).fill(1), [1, count])
    for (const { key, in: inner, out, chunk, parts } of bank.groupsOf(kind)) {
      const a = [count, parts.length, inner, PAGE_RANK]
      const b = [count, out / chunk, PAGE_RANK, chunk]
      feeds[`${key}.A`] = tables.rows(region, `${key}.A`, range, a)
      feeds[`${key}.B`] = tables.rows(region, `${key}.B`, range, b)
    }
  }
  return feeds
}

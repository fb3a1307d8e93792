import { setImmediate as breathe } from 'node:timers/promises'
import {
  chunkParts,
  GROUP_KINDS,
  type GroupKind,
  type LinearGroup,
} from '../graph/linear-groups.ts'
import { PAGE_RANK } from '../graph/low-rank-pages.ts'
import {
  type BankPrecision,
  type StoredTable,
  storeTable,
  type TableShape,
} from './stored-table.ts'

/** A low-rank update of one linear: a [rank, in], b [rank, out] with the effective scale in it. */
export interface LowRankFactors {
  rank: number
  a: Float32Array
  b: Float32Array
}

/** The pages of one adapter for every group of one kind. */
export interface AdapterPages {
  count: number
  /** By table, `<group>.A` and `<group>.B`, [count, page]; a table that is all zeros is absent. */
  tables: Map<string, StoredTable>
}

/** Floats of one page of a group's tables; see graph/low-rank-pages.ts for the layout. */
export const pageTables = (group: LinearGroup): [key: string, floats: number][] => [
  [`${group.key}.A`, group.in * group.parts.length * PAGE_RANK],
  [`${group.key}.B`, group.out * PAGE_RANK],
]

/** Packs factors by linear into pages. An adapter has pages of those kinds alone that it updates. */
export async function packPages(
  groups: LinearGroup[],
  factors: ReadonlyMap<string, LowRankFactors>,
  precision: BankPrecision,
): Promise<Map<GroupKind, AdapterPages>> {
  const pages = new Map<GroupKind, AdapterPages>()
  for (const kind of GROUP_KINDS) {
    const own = groups.filter((group) => group.kind === kind)
    const rank = Math.max(0, ...own.flatMap((group) => ranksOf(group, factors)))
    if (rank === 0) continue
    const packed: AdapterPages = { count: Math.ceil(rank / PAGE_RANK), tables: new Map() }
    for (const group of own) {
      if (ranksOf(group, factors).length === 0) continue
      const [[a, aFloats], [b, bFloats]] = pageTables(group) as [[string, number], [string, number]]
      const rows = packA(group, factors, new Float32Array(packed.count * aFloats))
      packed.tables.set(a, storeTable(rows, aShape(group), precision))
      const columns = packB(group, factors, new Float32Array(packed.count * bFloats))
      packed.tables.set(b, storeTable(columns, bShape(group), precision))
      await breathe()
    }
    pages.set(kind, packed)
  }
  return pages
}

const ranksOf = ({ parts }: LinearGroup, factors: ReadonlyMap<string, LowRankFactors>): number[] =>
  parts.flatMap(({ path }) => factors.get(path)?.rank ?? [])

/** Every rank row of A is a column of its part's page, every one of B a row of its chunk. */
const aShape = (group: LinearGroup): TableShape => ({
  rows: group.in,
  columns: PAGE_RANK,
  scaled: 'columns',
})
const bShape = (group: LinearGroup): TableShape => ({
  rows: PAGE_RANK,
  columns: group.chunk,
  scaled: 'rows',
})

/** Pages [parts, in, rank]. */
function packA(
  { in: inner, parts }: LinearGroup,
  factors: ReadonlyMap<string, LowRankFactors>,
  target: Float32Array,
): Float32Array {
  const size = inner * PAGE_RANK
  for (const [s, { path }] of parts.entries()) {
    const factor = factors.get(path)
    if (!factor) continue
    const { a, rank } = factor
    for (let first = 0; first < rank; first += PAGE_RANK) {
      const columns = Math.min(PAGE_RANK, rank - first)
      const page = ((first / PAGE_RANK) * parts.length + s) * size
      // Rows of A are read side by side, so that what is written lies together.
      for (let i = 0; i < inner; i++)
        for (let r = 0; r < columns; r++)
          target[page + i * PAGE_RANK + r] = a[(first + r) * inner + i]!
    }
  }
  return target
}

/** Pages [chunks, rank, chunk]. */
function packB(
  group: LinearGroup,
  factors: ReadonlyMap<string, LowRankFactors>,
  target: Float32Array,
): Float32Array {
  const { parts, chunk, out } = group
  for (const [c, s] of chunkParts(group).entries()) {
    const { path, first, out: width } = parts[s]!
    const factor = factors.get(path)
    if (!factor) continue
    const from = c * chunk - first
    for (let r = 0; r < factor.rank; r++) {
      const page = Math.floor(r / PAGE_RANK) * out * PAGE_RANK
      const row = factor.b.subarray(r * width + from, r * width + from + chunk)
      target.set(row, page + (c * PAGE_RANK + (r % PAGE_RANK)) * chunk)
    }
  }
  return target
}

import type { Digest } from '@graft/sdk/format/digest.ts'
import type { OperationKind } from '@graft/sdk/format/operations.ts'
import type { VersionState } from '@graft/sdk/protocol/registry-api.ts'
import type { RegistryDeps } from '../deps.ts'
import { STATE_COLUMNS, type StateColumns, stateOf } from '../packages/states.ts'
import { first, type SqlValue } from '../stores/catalogue.ts'
import type { Demands } from './demands.ts'
import { allowsLicence } from './licence.ts'
import { maskWithout } from './operation-mask.ts'
import type { Interval } from './range-intervals.ts'
import { isRelease } from './version-order.ts'

/** A version, as far as choosing it and saying why not need it. */
export interface Candidate {
  digest: Digest
  version: string
  /** Key of version-order.ts. */
  sort: string
  base: { name: string; digest: Digest }
  structure: Digest
  operations: OperationKind[]
  maxRank: number | null
  /** '' = the manifest states none; null = not recorded. */
  license: string | null
  size: number
  publishedAt: string
  state: VersionState
}

type Row = StateColumns &
  Pick<Candidate, 'digest' | 'version' | 'sort' | 'structure' | 'license' | 'size'> & {
    base_name: string
    base_digest: Digest
    operations: string
    max_rank: number | null
    published_at: string
  }

const SELECT = `SELECT v.digest, v.version, v.sort, v.base_name, v.base_digest, b.structure, v.operations,
    v.max_rank, v.license, v.size, v.published_at, ${STATE_COLUMNS}
  FROM versions v JOIN bases b ON b.digest = v.base_digest`

const candidateOf = (row: Row): Candidate => ({
  digest: row.digest,
  version: row.version,
  sort: row.sort,
  base: { name: row.base_name, digest: row.base_digest },
  structure: row.structure,
  operations: JSON.parse(row.operations) as OperationKind[],
  maxRank: row.max_rank,
  license: row.license,
  size: row.size,
  publishedAt: row.published_at,
  state: stateOf(row),
})

/** A part of a WHERE clause and what it binds. */
export interface Clause {
  text: string
  params: SqlValue[]
}

const and = (clauses: readonly Clause[]): Clause => ({
  text: clauses.map(({ text }) => text).join(' AND '),
  params: clauses.flatMap(({ params }) => params),
})

/** Bounds of the index, then npm's rule of pre-releases. D1 binds 100 values; the spans are below, as one JSON array. */
function within({ from, to, prereleases }: Interval): Clause {
  const bounds = { text: 'v.sort >= ? AND v.sort < ?', params: [from, to] }
  if (prereleases.length === 0) return and([bounds, { text: isRelease('v.sort'), params: [] }])
  const named = `EXISTS (SELECT 1 FROM json_each(?) s
    WHERE v.sort >= s.value ->> '$.from' AND v.sort < s.value ->> '$.to')`
  return and([
    bounds,
    { text: `(${isRelease('v.sort')} OR ${named})`, params: [JSON.stringify(prereleases)] },
  ])
}

/** Every licence text of the package that is allowed: texts are few, and SQL cannot read expressions. */
async function allowedTexts(deps: RegistryDeps, name: string, licences: string[]): Promise<string> {
  const rows = await deps.catalogue.query<{ license: string }>(
    `SELECT DISTINCT license FROM versions WHERE package = ? AND license IS NOT NULL AND license != ''`,
    [name],
  )
  return JSON.stringify(
    rows.map((row) => row.license).filter((text) => allowsLicence(text, licences)),
  )
}

/** What `unfit` and `withdrawn` say, as SQL over the index's columns; the two are held together by a property test. */
export async function fitting(deps: RegistryDeps, name: string, demands: Demands): Promise<Clause> {
  const { base, structure, operations, maxRank, licences, publishedBy } = demands
  const clauses: Clause[] = [{ text: 'v.yanked IS NULL AND v.tombstoned IS NULL', params: [] }]
  const need = (text: string, ...params: SqlValue[]) => clauses.push({ text, params })
  if (base !== null) need('v.base_digest = ?', base)
  if (structure !== null)
    need('v.base_digest IN (SELECT digest FROM bases WHERE structure = ?)', structure)
  if (operations !== null) need('v.operation_mask & ? = 0', maskWithout(operations))
  if (maxRank !== null) need('v.max_rank <= ?', maxRank)
  if (publishedBy !== null) need('v.published_at <= ?', publishedBy)
  if (licences !== null)
    need('v.license IN (SELECT value FROM json_each(?))', await allowedTexts(deps, name, licences))
  return and(clauses)
}

/** The newest version of an interval that meets `more`. */
export async function newestIn(
  deps: RegistryDeps,
  name: string,
  interval: Interval,
  more: Clause,
): Promise<Candidate | null> {
  const where = and([{ text: 'v.package = ?', params: [name] }, within(interval), more])
  const row = await first<Row>(
    deps.catalogue,
    `${SELECT} WHERE ${where.text} ORDER BY v.sort DESC LIMIT 1`,
    ...where.params,
  )
  return row && candidateOf(row)
}

/** Everything an interval allows, newest first, at most `limit`. */
export async function listIn(
  deps: RegistryDeps,
  name: string,
  interval: Interval,
  limit: number,
): Promise<Candidate[]> {
  const where = and([{ text: 'v.package = ?', params: [name] }, within(interval)])
  const rows = await deps.catalogue.query<Row>(
    `${SELECT} WHERE ${where.text} ORDER BY v.sort DESC LIMIT ?`,
    [...where.params, limit],
  )
  return rows.map(candidateOf)
}

/** How many versions an interval allows. */
export async function countIn(deps: RegistryDeps, name: string, at: Interval): Promise<number> {
  const where = and([{ text: 'v.package = ?', params: [name] }, within(at)])
  const row = await first<{ count: number }>(
    deps.catalogue,
    `SELECT count(*) AS count FROM versions v WHERE ${where.text}`,
    ...where.params,
  )
  return row!.count
}

/** How many versions a package has. */
export async function countAll(deps: RegistryDeps, name: string): Promise<number> {
  const row = await first<{ count: number }>(
    deps.catalogue,
    'SELECT count(*) AS count FROM versions WHERE package = ?',
    name,
  )
  return row!.count
}

export async function findByDigest(
  deps: RegistryDeps,
  name: string,
  digest: Digest,
): Promise<Candidate | null> {
  const row = await first<Row>(
    deps.catalogue,
    `${SELECT} WHERE v.digest = ? AND v.package = ?`,
    digest,
    name,
  )
  return row && candidateOf(row)
}

export async function findByTag(
  deps: RegistryDeps,
  name: string,
  tag: string,
): Promise<Candidate | null> {
  const row = await first<Row>(
    deps.catalogue,
    `${SELECT} WHERE v.digest = (SELECT version FROM tags WHERE package = ? AND tag = ?)`,
    name,
    tag,
  )
  return row && candidateOf(row)
}

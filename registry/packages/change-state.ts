import type { Digest } from '@graft/sdk/format/digest.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import type { PackageEvent } from '@graft/sdk/format/log-entry.ts'
import type { VersionState, VersionStateAnswer } from '@graft/sdk/protocol/registry-api.ts'
import { nowIso, type RegistryDeps } from '../deps.ts'
import { type Caller, requireScope } from '../identity/caller.ts'
import { mayTombstone } from '../identity/roles.ts'
import { appendEvent } from '../log/append-event.ts'
import { assertMayPublish, orgOf } from '../publish/checks.ts'
import { fitting, newestIn } from '../resolve/candidates.ts'
import { NO_DEMANDS } from '../resolve/demands.ts'
import { fillOrder } from '../resolve/fill-order.ts'
import { rangeIntervals } from '../resolve/range-intervals.ts'
import { first, type SqlStatement, sql } from '../stores/catalogue.ts'
import { eventRow } from './events.ts'
import { type FoundVersion, findVersion } from './find-version.ts'
import { removeBlobs } from './remove-blobs.ts'
import { withdrawn } from './states.ts'
import { listTags } from './tags.ts'
import { findPackage, packageUnknown, type ReadablePackage } from './versions.ts'

/** What a caller wants said of a version; null takes it back. */
export type StateChange =
  | { yank: string | null }
  | { deprecate: string | null }
  /** Final: there is no way back. */
  | { tombstone: string }

/** Publishers change what is chosen; only an owner, or an operator of the registry, makes bytes disappear. */
async function assertMayChange(
  deps: RegistryDeps,
  caller: Caller,
  name: string,
  change: StateChange,
): Promise<ReadablePackage> {
  if (!('tombstone' in change)) {
    assertMayPublish(caller, name)
    return findPackage(deps, { tenant: caller.tenant, only: null }, name)
  }
  requireScope(caller, 'admin')
  if (caller.operator) {
    // The law reaches private packages too.
    const row = await first<ReadablePackage>(
      deps.catalogue,
      'SELECT name, visibility FROM packages WHERE name = ?',
      name,
    )
    if (row === null) throw packageUnknown(name)
    return row
  }
  if (orgOf(name) !== caller.tenant || !mayTombstone(caller.role))
    throw new GraftError(
      'ERR_FORBIDDEN',
      `only an owner of @${orgOf(name)} or an operator of this registry may remove ${name}'s bytes`,
    )
  return findPackage(deps, { tenant: caller.tenant, only: null }, name)
}

/** As npm does when what `latest` names is gone: it then names the newest release that is left, if one is. */
async function moveLatest(
  deps: RegistryDeps,
  name: string,
  from: Digest,
): Promise<{ rows: SqlStatement[]; to: { digest: Digest; version: string } | null }> {
  await fillOrder(deps, name)
  const [releases] = rangeIntervals('*')
  const fits = await fitting(deps, name, NO_DEMANDS)
  const others = { text: `${fits.text} AND v.digest != ?`, params: [...fits.params, from] }
  const fresh = { ...others, text: `${others.text} AND v.deprecated IS NULL` }
  const next =
    (await newestIn(deps, name, releases!, fresh)) ??
    (await newestIn(deps, name, releases!, others))
  if (next === null) return { rows: [], to: null }
  const row = sql(
    `UPDATE tags SET version = ?, moved_at = ? WHERE package = ? AND tag = 'latest' AND version = ?`,
    next.digest,
    nowIso(deps),
    name,
    from,
  )
  return { rows: [row], to: { digest: next.digest, version: next.version } }
}

const setState = (column: 'yanked' | 'deprecated', text: string | null, at: string, id: Digest) =>
  sql(
    `UPDATE versions SET ${column} = ?, ${column}_at = CASE WHEN ? IS NULL THEN NULL ELSE coalesce(${column}_at, ?) END
      WHERE digest = ? AND tombstoned IS NULL`,
    text,
    text,
    at,
    id,
  )

/** Texts of the author may hold what had to go, so they go as well. */
const tombstoneRows = (reason: string, at: string, id: Digest): SqlStatement[] => [
  sql(
    `UPDATE versions SET tombstoned = ?, tombstoned_at = ?, description = '', keywords = '[]',
       signatures = '[]', attestations = '[]'
      WHERE digest = ?`,
    reason,
    at,
    id,
  ),
  sql(
    `INSERT INTO blob_removals (blob, asked_at) SELECT blob, ? FROM version_blobs WHERE version = ?
     ON CONFLICT (blob) DO NOTHING`,
    at,
    id,
  ),
  // An upload that counted on reading them from here must send them itself.
  sql(
    `UPDATE upload_blobs SET state = 'missing' WHERE state = 'readable'
       AND digest IN (SELECT blob FROM version_blobs WHERE version = ?)
       AND upload IN (SELECT id FROM uploads WHERE state IN ('uploading', 'verifying'))`,
    id,
  ),
  sql('DELETE FROM version_blobs WHERE version = ?', id),
]

function changeRows(change: StateChange, at: string, id: Digest): SqlStatement[] {
  if ('yank' in change) return [setState('yanked', change.yank, at, id)]
  if ('deprecate' in change) return [setState('deprecated', change.deprecate, at, id)]
  return tombstoneRows(change.tombstone, at, id)
}

/** The event's kind, and what was said. */
function said(change: StateChange): {
  kind: Extract<PackageEvent['kind'], `version.${string}`>
  facts: Record<string, string>
} {
  if ('tombstone' in change)
    return { kind: 'version.tombstone', facts: { reason: change.tombstone } }
  if ('yank' in change)
    return change.yank === null
      ? { kind: 'version.unyank', facts: {} }
      : { kind: 'version.yank', facts: { reason: change.yank } }
  return change.deprecate === null
    ? { kind: 'version.undeprecate', facts: {} }
    : { kind: 'version.deprecate', facts: { message: change.deprecate } }
}

/** Whether nothing is left to say. A tombstone stays what it is. */
function isSaid({ yanked, deprecated, tombstoned }: VersionState, change: StateChange): boolean {
  if ('tombstone' in change) return tombstoned !== undefined
  if ('yank' in change) return (yanked?.reason ?? null) === change.yank
  return (deprecated?.message ?? null) === change.deprecate
}

/**
 * Says something of a published version, in one batch with its audit line and its leaf of the log. Again is the same as
 * once; the first time stays.
 * @throws ERR_FORBIDDEN, ERR_PACKAGE_UNKNOWN, ERR_VERSION_UNKNOWN
 */
export async function changeState(
  deps: RegistryDeps,
  caller: Caller,
  name: string,
  version: string,
  change: StateChange,
): Promise<VersionStateAnswer> {
  const { visibility } = await assertMayChange(deps, caller, name, change)
  const found = await findVersion(deps, name, version)
  if (found.state.tombstoned && !('tombstone' in change))
    throw new GraftError('ERR_VERSION_UNKNOWN', `${name}@${version} ${withdrawn(found.state)}`)
  if (!isSaid(found.state, change))
    await deps.catalogue.batch(
      await batchOf(deps, caller, { name, private: visibility !== 'public' }, found, change),
    )
  if ('tombstone' in change) await removeBlobs(deps)
  return answerOf(deps, name, await findVersion(deps, name, version))
}

async function batchOf(
  deps: RegistryDeps,
  caller: Caller,
  about: { name: string; private: boolean },
  { digest, version }: FoundVersion,
  change: StateChange,
): Promise<SqlStatement[]> {
  const { name } = about
  const at = nowIso(deps)
  const { kind, facts } = said(change)
  const log = (event: Pick<PackageEvent, 'kind' | 'facts'>, guard?: SqlStatement) =>
    appendEvent(deps, { ...event, package: name, private: about.private }, guard)
  const text = Object.values(facts).map((said) => ` ${said}`)
  const rows = [
    ...changeRows(change, at, digest),
    eventRow(deps, caller, kind, `${name}@${version} ${digest}${text.join('')}`),
    await log({ kind, facts: { version, digest, ...facts } }),
  ]
  const leaves = kind === 'version.yank' || kind === 'version.tombstone'
  if (!leaves || (await listTags(deps, name)).get('latest') !== digest) return rows
  const { rows: moved, to } = await moveLatest(deps, name, digest)
  if (to === null) return rows
  return [
    ...rows,
    ...moved,
    eventRow(deps, caller, 'tag.move', `${name} latest ${to.digest}`),
    await log(
      { kind: 'tag.move', facts: { tag: 'latest', ...to } },
      // Somebody may have moved it elsewhere meanwhile.
      sql(
        `EXISTS (SELECT 1 FROM tags WHERE package = ? AND tag = 'latest' AND version = ?)`,
        name,
        to.digest,
      ),
    ),
  ]
}

async function answerOf(
  deps: RegistryDeps,
  name: string,
  { digest, version, state }: FoundVersion,
): Promise<VersionStateAnswer> {
  const rows = await deps.catalogue.query<{ tag: string; version: string }>(
    `SELECT t.tag, v.version FROM tags t JOIN versions v ON v.digest = t.version
      WHERE t.package = ? ORDER BY t.tag`,
    [name],
  )
  return {
    name,
    version,
    digest,
    state,
    tags: Object.fromEntries(rows.map((r) => [r.tag, r.version])),
  }
}

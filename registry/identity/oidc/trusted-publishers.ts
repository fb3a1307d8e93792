import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import type { TrustedPublisher, TrustedPublisherRequest } from '@graft/sdk/protocol/registry-api.ts'
import { newId, nowIso, type RegistryDeps } from '../../deps.ts'
import { eventRow } from '../../packages/events.ts'
import { orgOf } from '../../publish/checks.ts'
import { sql } from '../../stores/catalogue.ts'
import { type Caller, requireScope, requireTenant } from '../caller.ts'

/** Claims that say whose workload it is, of GitHub, GitLab and any other: a rule without one would trust strangers. */
const IDENTIFYING = ['repository', 'project_path', 'sub']
const MAX_RULES = 20

interface Row {
  id: string
  package: string
  issuer: string
  claims: string
  created_by: string
  created_at: string
}

const toPublisher = (row: Row): TrustedPublisher => ({
  id: row.id,
  package: row.package,
  issuer: row.issuer,
  claims: JSON.parse(row.claims) as Record<string, string>,
  createdBy: row.created_by,
  createdAt: row.created_at,
})

/** Of one package; for those who may publish it. */
export async function listTrustedPublishers(
  deps: RegistryDeps,
  caller: Caller,
  name: string,
): Promise<TrustedPublisher[]> {
  requireTenant(caller, orgOf(name))
  requireScope(caller, 'publish')
  const rows = await deps.catalogue.query<Row>(
    `SELECT id, package, issuer, claims, created_by, created_at FROM trusted_publishers
      WHERE package = ? ORDER BY created_at, id`,
    [name],
  )
  return rows.map(toPublisher)
}

/** @throws ERR_REQUEST_INVALID, ERR_FORBIDDEN, ERR_QUOTA_EXCEEDED */
export async function addTrustedPublisher(
  deps: RegistryDeps,
  caller: Caller,
  name: string,
  { issuer, claims }: TrustedPublisherRequest,
): Promise<TrustedPublisher> {
  requireTenant(caller, orgOf(name))
  requireScope(caller, 'admin')
  const issuers = deps.trustedIssuers ?? []
  if (!issuers.includes(issuer))
    throw new GraftError(
      'ERR_REQUEST_INVALID',
      expected('body.issuer', `one of ${issuers.join(', ') || 'none (none is set up)'}`, issuer),
    )
  if (!IDENTIFYING.some((claim) => claims[claim] !== undefined))
    throw new GraftError(
      'ERR_REQUEST_INVALID',
      expected('body.claims', `to name ${IDENTIFYING.join(' or ')}`, Object.keys(claims)),
    )
  if ((await listTrustedPublishers(deps, caller, name)).length >= MAX_RULES)
    throw new GraftError('ERR_QUOTA_EXCEEDED', `${name} has ${MAX_RULES} rules already`)
  const row: Row = {
    ...{ id: newId(deps), package: name, issuer, claims: JSON.stringify(claims) },
    ...{ created_by: caller.user, created_at: nowIso(deps) },
  }
  await deps.catalogue.batch([
    sql(
      `INSERT INTO trusted_publishers (id, package, org, issuer, claims, created_by, created_at)
       VALUES (?, ?, ?, ?, ?, ?, ?)`,
      row.id,
      name,
      caller.tenant,
      issuer,
      row.claims,
      row.created_by,
      row.created_at,
    ),
    eventRow(deps, caller, 'publisher.trust', `${name} ${row.id}`),
  ])
  return toPublisher(row)
}

/** Tokens that it gave go on for their few minutes. @throws ERR_NAME_UNKNOWN */
export async function removeTrustedPublisher(
  deps: RegistryDeps,
  caller: Caller,
  name: string,
  id: string,
): Promise<void> {
  requireTenant(caller, orgOf(name))
  requireScope(caller, 'admin')
  const [gone] = await deps.catalogue.batch([
    sql('DELETE FROM trusted_publishers WHERE id = ? AND package = ?', id, name),
    eventRow(deps, caller, 'publisher.distrust', `${name} ${id}`),
  ])
  if (gone !== 1) throw new GraftError('ERR_NAME_UNKNOWN', `${name} has no rule "${id}"`)
}

/** Exactly, or for a value that ends in "*" its beginning: `refs/tags/v*`. A claim that is no text matches nothing. */
export const matchesClaims = (
  rule: Record<string, string>,
  claims: Record<string, unknown>,
): boolean =>
  Object.entries(rule).every(([name, want]) => {
    const got = Object.hasOwn(claims, name) ? claims[name] : undefined
    if (typeof got !== 'string') return false
    return want.endsWith('*') ? got.startsWith(want.slice(0, -1)) : got === want
  })

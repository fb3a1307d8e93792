import { GraftError } from '@graft/sdk/format/errors.ts'
import type { Member, MemberRequest } from '@graft/sdk/protocol/registry-api.ts'
import type { Scope } from '@graft/sdk/protocol/tokens.ts'
import { nowIso, type RegistryDeps } from '../deps.ts'
import { eventRow } from '../packages/events.ts'
import { first, type SqlStatement, sql } from '../stores/catalogue.ts'
import { type Caller, requireScope, requireTenant } from './caller.ts'
import { REVOKE } from './mint.ts'
import { mayAppoint, type Role, within } from './roles.ts'

export const userExists = async (deps: RegistryDeps, name: string): Promise<boolean> =>
  (await first(deps.catalogue, 'SELECT name FROM users WHERE name = ?', name)) !== null

export const findRole = async (
  deps: RegistryDeps,
  org: string,
  user: string,
): Promise<Role | null> =>
  (
    await first<{ role: Role }>(
      deps.catalogue,
      'SELECT role FROM members WHERE org = ? AND user = ?',
      org,
      user,
    )
  )?.role ?? null

/** By name; for members alone. @throws ERR_FORBIDDEN */
export async function listMembers(
  deps: RegistryDeps,
  caller: Caller,
  org: string,
): Promise<Member[]> {
  requireTenant(caller, org)
  requireScope(caller, 'read')
  return deps.catalogue.query<Member>(
    'SELECT user, role, created_at AS since FROM members WHERE org = ? ORDER BY user',
    [org],
  )
}

/** @throws ERR_FORBIDDEN unless the caller's role may give or take this one */
export function requireAppoint(caller: Caller, org: string, role: Role): void {
  requireTenant(caller, org)
  requireScope(caller, 'admin')
  if (mayAppoint(caller.role, role)) return
  throw new GraftError(
    'ERR_FORBIDDEN',
    `${caller.user} is ${caller.role} of ${org} and cannot give or take the role ${role}; ask an owner`,
  )
}

/** As part of the batch: it fails as a whole where the organisation would lose its last owner. */
const keepsOwner = (org: string): SqlStatement =>
  sql(
    // A NULL epoch is what the column refuses.
    `UPDATE orgs SET epoch = CASE WHEN EXISTS
       (SELECT 1 FROM members WHERE org = orgs.name AND role = 'owner') THEN epoch END
      WHERE name = ?`,
    org,
  )

async function batchKeepingOwner(
  deps: RegistryDeps,
  org: string,
  user: string,
  rows: readonly SqlStatement[],
): Promise<void> {
  try {
    await deps.catalogue.batch([...rows, keepsOwner(org)])
  } catch (e) {
    const others = await deps.catalogue.query(
      `SELECT user FROM members WHERE org = ? AND role = 'owner' AND user != ?`,
      [org, user],
    )
    if (others.length > 0) throw e
    throw new GraftError('ERR_FORBIDDEN', `${org} must keep an owner, and ${user} is the only one`)
  }
}

/** Tokens of a member that a role would not allow, and so end with the change; all of them for null. */
async function revokeBeyond(
  deps: RegistryDeps,
  org: string,
  user: string,
  role: Role | null,
): Promise<SqlStatement[]> {
  const tokens = await deps.catalogue.query<{ jti: string; scopes: string }>(
    'SELECT jti, scopes FROM tokens WHERE org = ? AND user = ? AND revoked_at IS NULL AND expires_at > ?',
    [org, user, nowIso(deps)],
  )
  const exceeds = (text: string): boolean => {
    const scopes = JSON.parse(text) as Scope[]
    return role === null || within(scopes, role).length < scopes.length
  }
  return tokens
    .filter((token) => exceeds(token.scopes))
    .map((token) => sql(REVOKE, nowIso(deps), token.jti))
}

/** Adds a member or changes a role; tokens that the new role would not allow are revoked with it. */
export async function setMember(
  deps: RegistryDeps,
  caller: Caller,
  org: string,
  { user, role }: MemberRequest,
): Promise<void> {
  requireAppoint(caller, org, role)
  if (!(await userExists(deps, user)))
    throw new GraftError('ERR_NAME_UNKNOWN', `user "${user}" is not known here`)
  const before = await findRole(deps, org, user)
  if (before !== null) requireAppoint(caller, org, before)
  await batchKeepingOwner(deps, org, user, [
    sql(
      `INSERT INTO members (org, user, role, created_at) VALUES (?, ?, ?, ?)
       ON CONFLICT (org, user) DO UPDATE SET role = excluded.role`,
      org,
      user,
      role,
      nowIso(deps),
    ),
    ...(await revokeBeyond(deps, org, user, role)),
    eventRow(deps, caller, 'org.member', `${user} ${role}`),
  ])
}

/** Ends a membership and every token of it; everybody may end their own. @throws ERR_FORBIDDEN, ERR_NAME_UNKNOWN */
export async function removeMember(
  deps: RegistryDeps,
  caller: Caller,
  org: string,
  user: string,
): Promise<void> {
  requireTenant(caller, org)
  const role = await findRole(deps, org, user)
  if (user !== caller.user || !caller.sub.startsWith('user:')) {
    requireScope(caller, 'admin')
    if (role !== null) requireAppoint(caller, org, role)
  }
  if (role === null)
    throw new GraftError('ERR_NAME_UNKNOWN', `user "${user}" is no member of ${org}`)
  await batchKeepingOwner(deps, org, user, [
    sql('DELETE FROM members WHERE org = ? AND user = ?', org, user),
    ...(await revokeBeyond(deps, org, user, null)),
    eventRow(deps, caller, 'org.member', `${user} removed`),
  ])
}

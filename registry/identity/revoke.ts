import { GraftError } from '@graft/sdk/format/errors.ts'
import type { MemberRequest, Revocations, TokenAnswer } from '@graft/sdk/protocol/registry-api.ts'
import type { Scope } from '@graft/sdk/protocol/tokens.ts'
import { nowIso, type RegistryDeps } from '../deps.ts'
import { eventRow } from '../packages/events.ts'
import { first, sql } from '../stores/catalogue.ts'
import { findOrg, userExists } from './accounts.ts'
import { type Caller, requireScope, requireTenant } from './caller.ts'
import { MAX_TOKEN_SECONDS, mintToken } from './mint.ts'
import { within } from './roles.ts'

/** Takes the time and the jti. */
export const REVOKE = 'UPDATE tokens SET revoked_at = ? WHERE jti = ? AND revoked_at IS NULL'

/** One's own tokens, or any of the organisation with the scope admin; again is the same as once. @throws ERR_NAME_UNKNOWN */
export async function revokeToken(deps: RegistryDeps, caller: Caller, jti: string): Promise<void> {
  const row = await first<{ org: string; user: string }>(
    deps.catalogue,
    'SELECT org, user FROM tokens WHERE jti = ?',
    jti,
  )
  const mine = row?.user === caller.user || caller.scopes.includes('admin')
  if (row?.org !== caller.tenant || !mine)
    throw new GraftError('ERR_NAME_UNKNOWN', `token "${jti}" is not one of ${caller.tenant}'s`)
  await deps.catalogue.batch([
    sql(REVOKE, nowIso(deps), jti),
    eventRow(deps, caller, 'token.revoke', jti),
  ])
}

/**
 * Every token of the organisation dies at once; the caller gets the one to go on with.
 * @throws ERR_FORBIDDEN
 */
export async function revokeAllTokens(
  deps: RegistryDeps,
  caller: Caller,
  orgName: string,
): Promise<TokenAnswer> {
  requireTenant(caller, orgName)
  requireScope(caller, 'admin')
  const org = (await findOrg(deps, orgName))!
  const { answer, row } = await mintToken(deps, {
    user: caller.user,
    org: orgName,
    epoch: org.epoch + 1,
    name: 'after revoking all',
    scopes: caller.scopes,
    seconds: MAX_TOKEN_SECONDS,
    kind: 'user',
  })
  await deps.catalogue.batch([
    // Two at once raise it once, and both new tokens count.
    sql('UPDATE orgs SET epoch = max(epoch, ?) WHERE name = ?', org.epoch + 1, orgName),
    row,
    eventRow(deps, caller, 'org.revoke', orgName),
  ])
  return answer
}

/** Adds a member or changes a role; tokens that the new role would not allow are revoked with it. */
export async function setMember(
  deps: RegistryDeps,
  caller: Caller,
  org: string,
  { user, role }: MemberRequest,
): Promise<void> {
  requireTenant(caller, org)
  requireScope(caller, 'admin')
  if (!(await userExists(deps, user)))
    throw new GraftError('ERR_NAME_UNKNOWN', `user "${user}" is not known here`)
  const others = await deps.catalogue.query(
    `SELECT user FROM members WHERE org = ? AND role = 'owner' AND user != ?`,
    [org, user],
  )
  if (role !== 'owner' && others.length === 0)
    throw new GraftError('ERR_FORBIDDEN', `${org} must keep an owner, and ${user} is the only one`)
  const tokens = await deps.catalogue.query<{ jti: string; scopes: string }>(
    'SELECT jti, scopes FROM tokens WHERE org = ? AND user = ? AND revoked_at IS NULL',
    [org, user],
  )
  const exceeding = tokens.filter((token) => {
    const scopes = JSON.parse(token.scopes) as Scope[]
    return within(scopes, role).length < scopes.length
  })
  const at = nowIso(deps)
  await deps.catalogue.batch([
    sql(
      `INSERT INTO members (org, user, role, created_at) VALUES (?, ?, ?, ?)
       ON CONFLICT (org, user) DO UPDATE SET role = excluded.role`,
      org,
      user,
      role,
      at,
    ),
    ...exceeding.map((token) => sql(REVOKE, at, token.jti)),
    eventRow(deps, caller, 'org.member', `${user} ${role}`),
  ])
}

/** What whoever verifies tokens offline has to know. */
export async function listRevocations(deps: RegistryDeps): Promise<Revocations> {
  const tokens = await deps.catalogue.query<{ jti: string }>(
    'SELECT jti FROM tokens WHERE revoked_at IS NOT NULL AND expires_at > ? ORDER BY jti',
    [nowIso(deps)],
  )
  const orgs = await deps.catalogue.query<{ name: string; epoch: number }>(
    'SELECT name, epoch FROM orgs WHERE epoch > 1 ORDER BY name',
  )
  return {
    tokens: tokens.map((row) => row.jti),
    epochs: Object.fromEntries(orgs.map((row) => [row.name, row.epoch])),
  }
}

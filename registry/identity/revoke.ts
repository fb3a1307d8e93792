import { GraftError } from '@graft/sdk/format/errors.ts'
import type { Revocations, TokenAnswer } from '@graft/sdk/protocol/registry-api.ts'
import { nowIso, type RegistryDeps } from '../deps.ts'
import { eventRow } from '../packages/events.ts'
import { first, sql } from '../stores/catalogue.ts'
import { findOrg } from './accounts.ts'
import { type Caller, requireScope, requireTenant } from './caller.ts'
import { MAX_TOKEN_SECONDS, mintToken, REVOKE } from './mint.ts'

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
    // Browsers too: a session could let a program in again.
    sql('DELETE FROM sessions WHERE user IN (SELECT user FROM members WHERE org = ?)', orgName),
    eventRow(deps, caller, 'org.revoke', orgName),
  ])
  return answer
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

import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import type { TokenAnswer, TokenPage } from '@graft/sdk/protocol/registry-api.ts'
import type { Scope } from '@graft/sdk/protocol/tokens.ts'
import { nowIso, type RegistryDeps } from '../deps.ts'
import { eventRow } from '../packages/events.ts'
import { first, sql } from '../stores/catalogue.ts'
import { findOrg } from './accounts.ts'
import type { Caller } from './caller.ts'
import { mintToken, REVOKE } from './mint.ts'

interface TokenRow {
  jti: string
  user: string
  name: string
  scopes: string
  kind: 'user' | 'token' | null
  created_at: string
  expires_at: string
  revoked_at: string | null
  last_used_at: string | null
}
const COLUMNS = 'jti, user, name, scopes, kind, created_at, expires_at, revoked_at, last_used_at'

/**
 * Newest first, a page at a time: one's own in this organisation, or everybody's with the scope admin. Dead ones too,
 * until they would have expired.
 * @param after the last token of the page before
 * @throws ERR_REQUEST_INVALID when that is none of these
 */
export async function listTokens(
  deps: RegistryDeps,
  caller: Caller,
  { after, limit }: { after: string | null; limit: number },
): Promise<TokenPage> {
  const own = caller.scopes.includes('admin') ? null : caller.user
  const mine = 'org = ? AND (? IS NULL OR user = ?)'
  const who = [caller.tenant, own, own]
  const from =
    after === null
      ? null
      : await first<TokenRow>(
          deps.catalogue,
          `SELECT ${COLUMNS} FROM tokens WHERE jti = ? AND ${mine}`,
          after,
          ...who,
        )
  if (after !== null && from === null)
    throw new GraftError(
      'ERR_REQUEST_INVALID',
      expected('query: after', 'the jti of a token', after),
    )
  const rows = await deps.catalogue.query<TokenRow>(
    `SELECT ${COLUMNS} FROM tokens
      WHERE ${mine} AND expires_at > ? AND (? IS NULL OR (created_at, jti) < (?, ?))
      ORDER BY created_at DESC, jti DESC LIMIT ?`,
    [...who, nowIso(deps), after, from?.created_at ?? null, after, limit + 1],
  )
  const page = rows.slice(0, limit)
  const tokens = page.map((row) => ({
    jti: row.jti,
    name: row.name,
    user: row.user,
    scopes: JSON.parse(row.scopes) as Scope[],
    createdAt: row.created_at,
    expiresAt: row.expires_at,
    lastUsedAt: row.last_used_at,
    ...(row.revoked_at === null ? {} : { revokedAt: row.revoked_at }),
  }))
  const next = rows.length > limit ? page.at(-1)?.jti : undefined
  return next === undefined ? { tokens } : { tokens, next }
}

/**
 * A new token like the old, with a whole lifetime of the same length, and the old one is dead: one batch. Only an
 * administrator's may so renew itself; all others keep the day on which they end, else a leaked token could live for ever.
 * @throws ERR_NAME_UNKNOWN, ERR_FORBIDDEN
 */
export async function rotateToken(
  deps: RegistryDeps,
  caller: Caller,
  jti: string,
): Promise<TokenAnswer> {
  const row = await first<TokenRow>(
    deps.catalogue,
    `SELECT ${COLUMNS} FROM tokens WHERE jti = ? AND org = ? AND revoked_at IS NULL AND expires_at > ?`,
    jti,
    caller.tenant,
    nowIso(deps),
  )
  const admin = caller.scopes.includes('admin')
  // Another's token would be another's power: an administrator revokes it, its owner makes a new one.
  if (row === null || row.user !== caller.user)
    throw new GraftError(
      'ERR_NAME_UNKNOWN',
      `token "${jti}" is none of ${caller.user}'s that lives`,
    )
  const scopes = JSON.parse(row.scopes) as Scope[]
  const excess = scopes.filter((scope) => !caller.scopes.includes(scope))
  if (excess.length > 0)
    throw new GraftError(
      'ERR_FORBIDDEN',
      `a token cannot give what it does not have: ${excess.join(', ')}`,
    )
  // Whole seconds, as the token states them: no renewal may shorten or lengthen by a part of one.
  const seconds = (iso: string): number => Math.floor(Date.parse(iso) / 1000)
  const whole = seconds(row.expires_at) - seconds(row.created_at)
  const left = seconds(row.expires_at) - seconds(nowIso(deps))
  const org = (await findOrg(deps, caller.tenant))!
  const { answer, row: fresh } = await mintToken(deps, {
    user: row.user,
    org: caller.tenant,
    epoch: org.epoch,
    name: row.name,
    scopes,
    seconds: Math.max(1, admin ? whole : left),
    // A program's token must not become a person's: only a person's opens a browser session.
    kind: row.kind ?? 'token',
  })
  const [revoked] = await deps.catalogue.batch([
    sql(REVOKE, nowIso(deps), jti),
    fresh,
    eventRow(deps, caller, 'token.rotate', `${jti} ${answer.jti}`),
  ])
  if (revoked === 1) return answer
  // Two at once: the second's new token must not outlive the fact that there was nothing left to renew.
  await deps.catalogue.batch([sql(REVOKE, nowIso(deps), answer.jti)])
  throw new GraftError('ERR_NAME_UNKNOWN', `token "${jti}" was renewed or revoked meanwhile`)
}

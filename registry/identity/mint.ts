import { signJwt } from '@graft/sdk/format/jws.ts'
import { JWS_TYPES } from '@graft/sdk/format/manifest.ts'
import type { TokenAnswer } from '@graft/sdk/protocol/registry-api.ts'
import type { AccessClaims, Scope } from '@graft/sdk/protocol/tokens.ts'
import { newId, nowIso, type RegistryDeps } from '../deps.ts'
import { type SqlStatement, sql } from '../stores/catalogue.ts'

/** Seconds; the longest that any token lives. */
export const MAX_TOKEN_SECONDS = 366 * 86_400

/** Takes the time and the jti. */
export const REVOKE = 'UPDATE tokens SET revoked_at = ? WHERE jti = ? AND revoked_at IS NULL'

export interface Grant {
  user: string
  org: string
  epoch: number
  name: string
  scopes: Scope[]
  seconds: number
  /** A person's own token, or a program's. */
  kind: 'user' | 'token'
  /** The one package that it is good for. @default not bound to one */
  package?: string
}

/** A signed token and the row that makes it count; it is worth nothing until the row is committed. */
export async function mintToken(
  deps: RegistryDeps,
  grant: Grant,
): Promise<{ answer: TokenAnswer; row: SqlStatement }> {
  const jti = newId(deps)
  const iat = Math.floor(deps.clock().getTime() / 1000)
  const exp = iat + grant.seconds
  const claims: AccessClaims = {
    iss: deps.issuerName,
    sub: grant.kind === 'user' ? `user:${grant.user}` : `token:${jti}`,
    tenant: grant.org,
    scopes: grant.scopes,
    jti,
    epoch: grant.epoch,
    iat,
    exp,
  }
  const expiresAt = new Date(exp * 1000).toISOString()
  const token = await signJwt(claims, JWS_TYPES.accessToken, deps.issuer)
  const row = sql(
    `INSERT INTO tokens (jti, org, user, name, scopes, kind, package, created_at, expires_at)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    jti,
    grant.org,
    grant.user,
    grant.name,
    JSON.stringify(grant.scopes),
    grant.kind,
    grant.package ?? null,
    nowIso(deps),
    expiresAt,
  )
  return { answer: { token, jti, expiresAt }, row }
}

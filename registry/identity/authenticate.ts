import { type Digest, isDigest } from '@graft/sdk/format/digest.ts'
import { GraftError, isGraftError } from '@graft/sdk/format/errors.ts'
import { decodeUnverified, verifyJwt } from '@graft/sdk/format/jws.ts'
import { JWS_TYPES } from '@graft/sdk/format/manifest.ts'
import type { AccessClaims, CapabilityClaims } from '@graft/sdk/protocol/tokens.ts'
import type { RegistryDeps } from '../deps.ts'
import type { RegistryContext } from '../http/context.ts'
import { first, sql } from '../stores/catalogue.ts'
import { assertBound } from './bound-token.ts'
import type { Caller } from './caller.ts'
import { type Role, within } from './roles.ts'

/** On whose behalf something is read: nobody's, a tenant's, or a tenant's but of one manifest alone. */
export interface Reader {
  tenant: string | null
  only: Digest | null
}
export const ANYBODY: Reader = { tenant: null, only: null }

const refused = (why: string): GraftError =>
  new GraftError('ERR_UNAUTHENTICATED', `${why}; send "Authorization: Bearer <access token>"`)

/** Null without the header. @throws ERR_UNAUTHENTICATED when it is there but no Bearer token */
function bearerToken(c: RegistryContext): string | null {
  const header = c.req.header('authorization')
  if (header === undefined) return null
  const token = /^Bearer +([\w-]+\.[\w-]+\.[\w-]+)$/i.exec(header)?.[1]
  if (token === undefined) throw refused('the Authorization header holds no Bearer token')
  return token
}

interface TokenRow {
  user: string
  revoked_at: string | null
  last_used_at: string | null
  package: string | null
  epoch: number
  role: Role | null
  operator: number
}

/** What an access token lets its bearer do now. @throws ERR_UNAUTHENTICATED, ERR_TOKEN_EXPIRED, ERR_SIGNATURE_INVALID, ERR_KEY_UNKNOWN */
export async function verifyAccess(deps: RegistryDeps, token: string): Promise<Caller> {
  const claims = await verifyJwt<AccessClaims>(
    token,
    JWS_TYPES.accessToken,
    [deps.issuer.publicJwk],
    { now: deps.clock() },
  )
  if (claims.iss !== deps.issuerName) throw refused('the access token is of another issuer')
  const row = await first<TokenRow>(
    deps.catalogue,
    `SELECT t.user, t.revoked_at, t.last_used_at, t.package, o.epoch, m.role, u.operator
       FROM tokens t JOIN orgs o ON o.name = t.org JOIN users u ON u.name = t.user
       LEFT JOIN members m ON m.org = t.org AND m.user = t.user
      WHERE t.jti = ? AND t.org = ?`,
    claims.jti,
    claims.tenant,
  )
  if (row === null) throw refused('the access token is not known here')
  if (row.revoked_at !== null || claims.epoch < row.epoch || row.role === null)
    throw refused('the access token was revoked')
  const { sub, tenant, jti, exp, epoch } = claims
  const scopes = within(claims.scopes, row.role)
  await noteUse(deps, row, jti)
  const { user, role } = row
  const bound = { package: row.package, operator: row.operator === 1 }
  return { sub, user, tenant, scopes, jti, exp, epoch, role, ...bound }
}

/** Milliseconds: a use within them is the same use, so that reading does not become writing. */
const USE_RESOLUTION_MS = 60_000

async function noteUse(deps: RegistryDeps, row: TokenRow, jti: string): Promise<void> {
  const now = deps.clock()
  if (row.last_used_at !== null && now.getTime() - Date.parse(row.last_used_at) < USE_RESOLUTION_MS)
    return
  await deps.catalogue.batch([
    sql('UPDATE tokens SET last_used_at = ? WHERE jti = ?', now.toISOString(), jti),
  ])
}

/** @throws ERR_UNAUTHENTICATED, ERR_TOKEN_EXPIRED */
export async function authenticate(deps: RegistryDeps, c: RegistryContext): Promise<Caller> {
  const token = bearerToken(c)
  if (token === null) throw refused('the request carries no access token')
  const caller = await verifyAccess(deps, token)
  if (caller.package !== null) await assertBound(deps, c, caller.package)
  return caller
}

/** A token is optional, but one that is refused is never the same as none. */
export async function authenticateReader(deps: RegistryDeps, c: RegistryContext): Promise<Reader> {
  const token = bearerToken(c)
  if (token === null) return ANYBODY
  const { tenant, scopes } = await verifyAccess(deps, token)
  // A token made for calls alone may still resolve what it calls.
  const mayRead = scopes.includes('read') || scopes.includes('infer')
  return { tenant: mayRead ? tenant : null, only: null }
}

/** As above; a capability is accepted too, and then opens its one manifest. */
export async function authenticatePull(deps: RegistryDeps, c: RegistryContext): Promise<Reader> {
  const token = bearerToken(c)
  if (token === null || typeOf(token) !== JWS_TYPES.capability) return authenticateReader(deps, c)
  const keys = [deps.issuer.publicJwk]
  const now = deps.clock()
  const claims = await verifyJwt<CapabilityClaims>(token, JWS_TYPES.capability, keys, { now })
  if (claims.iss !== deps.issuerName || !isDigest(claims.manifest))
    throw refused('the capability is of another issuer')
  return { tenant: claims.tenant, only: claims.manifest }
}

function typeOf(token: string): unknown {
  try {
    return decodeUnverified(token).header['typ']
  } catch (e) {
    if (isGraftError(e)) throw refused('the token cannot be read')
    throw e
  }
}

import { decodeBase64url } from '@graft/sdk/format/base64url.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import { verifyJwt } from '@graft/sdk/format/jws.ts'
import { type AccessClaims, SCOPES, type Scope } from '@graft/sdk/protocol/tokens.ts'
import * as z from 'zod'
import type { Issuer } from './issuer-feed.ts'

/** Who calls. The token itself goes along only to ask the registry on the caller's behalf. */
export interface Caller extends AccessClaims {
  token: string
}

const claimsSchema = z.looseObject({
  iss: z.string(),
  sub: z.string(),
  tenant: z.string().min(1),
  scopes: z.array(z.enum(SCOPES)),
  jti: z.string().min(1),
  epoch: z.number(),
  iat: z.number(),
  exp: z.number(),
})

const refused = (why: string) =>
  new GraftError('ERR_UNAUTHENTICATED', `${why}; send "Authorization: Bearer <access token>"`)

/** @returns the token of a Bearer header. @throws ERR_UNAUTHENTICATED without one */
export function bearerToken(header: string | null | undefined): string {
  const token = /^Bearer ([\w-]+\.[\w-]+\.[\w-]+)$/i.exec(header ?? '')?.[1]
  if (!token) throw refused('the request carries no access token')
  return token
}

export interface AuthenticateOptions {
  issuer: Issuer
  issuerName: string
  clock: () => Date
}

/**
 * Verifies an access token offline: signature, type, issuer, expiry, then the cached revocation list and the tenant's
 * lowest epoch. @throws ERR_UNAUTHENTICATED, ERR_TOKEN_EXPIRED, ERR_FORBIDDEN without the scope
 */
export async function authenticate(
  { issuer, issuerName, clock }: AuthenticateOptions,
  header: string | null | undefined,
  scope: Scope,
): Promise<Caller> {
  const token = bearerToken(header)
  const keys = await issuer.keys(kidOf(token))
  const claims = claimsSchema.safeParse(
    await verifyJwt<AccessClaims>(token, 'graft-access+jwt', keys, { now: clock() }),
  )
  if (!claims.success) throw refused('the access token states claims that are not understood')
  const caller = claims.data as AccessClaims
  if (caller.iss !== issuerName)
    throw refused(`the access token must come from "${issuerName}", got "${caller.iss}"`)
  const { tokens, epochs } = await issuer.revocations()
  if (tokens.includes(caller.jti) || caller.epoch < (epochs[caller.tenant] ?? 0))
    throw refused('the access token was revoked')
  if (!caller.scopes.includes(scope))
    throw new GraftError(
      'ERR_FORBIDDEN',
      `the access token must have the scope "${scope}", it has ${caller.scopes.join(', ') || 'none'}`,
    )
  return { ...caller, token }
}

/** Only to know whether the cached keys can do; verification decides. */
function kidOf(token: string): string | undefined {
  try {
    const header = new TextDecoder().decode(decodeBase64url(token.slice(0, token.indexOf('.'))))
    return (JSON.parse(header) as { kid?: string }).kid
  } catch {
    return undefined
  }
}

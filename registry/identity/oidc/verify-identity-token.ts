import { GraftError } from '@graft/sdk/format/errors.ts'
import { decodeJwt, decodeProtectedHeader, importJWK, type JWTPayload, jwtVerify } from 'jose'
import type { IssuerKeys } from './issuer-keys.ts'

/** Public-key algorithms only: with HS256 the issuer's public key would be the secret. */
const ALGORITHMS = ['RS256', 'PS256', 'ES256', 'Ed25519', 'EdDSA']
/** Seconds that clocks may differ. */
const SKEW_SECONDS = 60
/** Seconds; CI tokens live minutes, and what lives longer is worth stealing. */
const MAX_LIFE_SECONDS = 24 * 3600
const MAX_LENGTH = 16 * 1024

export interface IdentityClaims extends JWTPayload {
  iss: string
  sub: string
  exp: number
  iat: number
}

export interface Expectation {
  /** The allow-list. */
  issuers: readonly string[]
  /** What the token must be for: this registry, and nobody else. */
  audience: string
  /** The one that was sent out; left out where none was. */
  nonce?: string
  now: Date
}

const refused = (why: string, cause?: unknown) =>
  new GraftError('ERR_UNAUTHENTICATED', `the identity token ${why}`, { cause })

/**
 * OpenID Connect Core 1.0 section 3.1.3.7: issuer, signature, audience, authorized party, time, nonce.
 * @throws ERR_UNAUTHENTICATED saying which failed; ERR_UNREACHABLE when the issuer's keys cannot be had
 */
export async function verifyIdentityToken(
  keys: IssuerKeys,
  token: string,
  { issuers, audience, nonce, now }: Expectation,
): Promise<IdentityClaims> {
  if (token.length > MAX_LENGTH) throw refused(`is longer than ${MAX_LENGTH} characters`)
  const { header, issuer } = readUnverified(token)
  if (issuer === undefined || !issuers.includes(issuer))
    throw refused(`is of an issuer that is not trusted here: ${JSON.stringify(issuer)}`)
  if (header.kid === undefined || !ALGORITHMS.includes(header.alg ?? ''))
    throw refused(`must name its key, and be signed with one of ${ALGORITHMS.join(', ')}`)
  const jwk = await keys.find(issuer, header.kid)
  if (jwk === null) throw refused(`is signed by a key that ${issuer} does not have`)
  if (jwk.alg !== undefined && jwk.alg !== header.alg)
    throw refused(`is signed with ${header.alg}, and its key is for ${jwk.alg}`)
  let claims: JWTPayload
  try {
    const key = await importJWK(jwk, header.alg!)
    const { payload } = await jwtVerify(token, key, {
      ...{ issuer, audience, algorithms: ALGORITHMS, currentDate: now },
      ...{ clockTolerance: SKEW_SECONDS, requiredClaims: ['exp', 'iat', 'sub'] },
    })
    claims = payload
  } catch (cause) {
    throw refused(`is not valid: ${cause instanceof Error ? cause.message : 'unreadable'}`, cause)
  }
  const { iat, exp, azp, aud } = claims as IdentityClaims & { azp?: unknown }
  if (iat * 1000 > now.getTime() + SKEW_SECONDS * 1000) throw refused('was issued in the future')
  if (exp - iat > MAX_LIFE_SECONDS) throw refused(`lives longer than ${MAX_LIFE_SECONDS} seconds`)
  if (azp !== undefined && azp !== audience) throw refused('was issued to another party (azp)')
  if (Array.isArray(aud) && aud.length > 1 && azp === undefined)
    throw refused('is for several audiences and does not say to whom it was issued (azp)')
  if (nonce !== undefined && claims['nonce'] !== nonce)
    throw refused('answers another sign-in (nonce)')
  return claims as IdentityClaims
}

/** Only to know whose keys to ask for; verification decides. */
function readUnverified(token: string) {
  try {
    return { header: decodeProtectedHeader(token), issuer: decodeJwt(token).iss }
  } catch (cause) {
    throw refused('cannot be read', cause)
  }
}

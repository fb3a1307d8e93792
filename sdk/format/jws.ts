import {
  calculateJwkThumbprint,
  exportJWK,
  FlattenedSign,
  flattenedVerify,
  generateKeyPair,
  importJWK,
} from 'jose'
import { decodeBase64url, encodeBase64url } from './base64url.ts'
import { canonicalBytes } from './canonical-json.ts'
import { type ErrorCode, expected, GraftError, isGraftError } from './errors.ts'
import type { JwsType, SignedEnvelope } from './manifest.ts'
import { type Json, parseStrictJson } from './strict-json.ts'

/** All that is known of a signature algorithm. `EdDSA` is what Ed25519 was called before RFC 9864. */
const ALGORITHMS = {
  Ed25519: { kty: 'OKP', crv: 'Ed25519' },
  EdDSA: { kty: 'OKP', crv: 'Ed25519' },
  ES256: { kty: 'EC', crv: 'P-256' },
} as const
type Algorithm = keyof typeof ALGORITHMS

export interface SigningKey {
  /** RFC 7638 thumbprint of the public key. */
  kid: string
  alg: 'Ed25519' | 'ES256'
  privateKey: CryptoKey
  /** Carries kid, alg and use beside the key. */
  publicJwk: JsonWebKey
}

interface ProtectedHeader {
  alg: Algorithm
  kid: string
  typ: string
}

/** The members that are the public key (RFC 7638 section 3.2), in the order of their names. */
export const publicMembers = ({ crv, kty, x, y }: JsonWebKey) =>
  ({
    ...(crv === undefined ? {} : { crv }),
    ...(kty === undefined ? {} : { kty }),
    ...(x === undefined ? {} : { x }),
    ...(y === undefined ? {} : { y }),
    // Of the platforms' types of a JWK, one demands kty and one does not.
  }) as JsonWebKey

const jose = (jwk: JsonWebKey) => jwk as Parameters<typeof importJWK>[0]

const isSupported = (jwk: JsonWebKey): boolean =>
  Object.values(ALGORITHMS).some((a) => a.kty === jwk.kty && a.crv === jwk.crv)

/** RFC 7638 with sha256, base64url. @throws ERR_KEY_UNKNOWN when it is no public key of an allowed kind */
export async function thumbprint(jwk: JsonWebKey): Promise<string> {
  if (!isSupported(jwk))
    throw new GraftError(
      'ERR_KEY_UNKNOWN',
      expected('key', 'OKP Ed25519 or EC P-256', `${jwk.kty} ${jwk.crv}`),
    )
  try {
    return await calculateJwkThumbprint(jose(publicMembers(jwk)))
  } catch (cause) {
    const got = publicMembers(jwk)
    throw new GraftError('ERR_KEY_UNKNOWN', expected('key', 'a whole public key', got), { cause })
  }
}

const describe = async (
  alg: SigningKey['alg'],
  privateKey: CryptoKey,
  jwk: JsonWebKey,
): Promise<SigningKey> => {
  const kid = await thumbprint(jwk)
  const publicJwk = { ...publicMembers(jwk), kid, alg, use: 'sig' }
  return { kid, alg, privateKey, publicJwk }
}

export async function generateSigningKey(alg: SigningKey['alg'] = 'Ed25519'): Promise<SigningKey> {
  const { privateKey, publicKey } = await generateKeyPair(alg, { extractable: true })
  return describe(alg, privateKey, (await exportJWK(publicKey)) as JsonWebKey)
}

/** The private JWK: a secret. */
export async function exportSigningKey(key: SigningKey): Promise<JsonWebKey> {
  const { d } = await exportJWK(key.privateKey)
  return { ...key.publicJwk, d: d! }
}

/** @throws ERR_KEY_UNKNOWN when it is no private key of an allowed kind, or its halves do not belong together */
export async function importSigningKey(privateJwk: JsonWebKey): Promise<SigningKey> {
  await thumbprint(privateJwk)
  const alg = privateJwk.kty === 'OKP' ? 'Ed25519' : 'ES256'
  try {
    if (typeof privateJwk.d !== 'string') throw new TypeError('the private member "d" is absent')
    const members = { ...publicMembers(privateJwk), d: privateJwk.d }
    const privateKey = (await importJWK(jose(members), alg, { extractable: true })) as CryptoKey
    return await describe(alg, privateKey, privateJwk)
  } catch (cause) {
    throw new GraftError('ERR_KEY_UNKNOWN', 'the signing key must be a private JWK, got another', {
      cause,
    })
  }
}

const invalid = (message: string, cause?: unknown): GraftError =>
  new GraftError('ERR_SIGNATURE_INVALID', message, { cause })

async function sign(payload: Uint8Array, typ: JwsType, key: SigningKey) {
  const header = { alg: key.alg, kid: key.kid, typ }
  const jws = await new FlattenedSign(payload).setProtectedHeader(header).sign(key.privateKey)
  return { protected: jws.protected!, payload: jws.payload, signature: jws.signature }
}

/** Only what is signed counts, and only what is understood is accepted: alg, kid and typ, nothing else. */
function parseHeader(encoded: string, typ: JwsType): ProtectedHeader {
  const json = parseJson(encoded, 'protected header')
  const { alg, kid, typ: got, ...rest } = json as Record<string, Json>
  const unknown = Object.keys(rest)[0]
  // jwk, jku, x5u and x5c would let a signature bring its own key; crit and b64 would change what is signed.
  if (unknown !== undefined)
    throw invalid(expected('protected header', 'alg, kid and typ only', unknown))
  if (typeof alg !== 'string' || !Object.hasOwn(ALGORITHMS, alg))
    throw invalid(expected('protected header: alg', 'Ed25519, EdDSA or ES256', alg))
  if (typeof kid !== 'string' || kid === '')
    throw invalid(expected('protected header: kid', 'a key id', kid))
  if (got !== typ) throw invalid(expected('protected header: typ', JSON.stringify(typ), got))
  return { alg: alg as Algorithm, kid, typ: got }
}

function parseJson(encoded: string, where: string): Record<string, Json> {
  if (typeof encoded !== 'string') throw invalid(expected(where, 'base64url text', encoded))
  let json: Json
  try {
    json = parseStrictJson(decodeBase64url(encoded, where), where)
  } catch (cause) {
    throw invalid(isGraftError(cause) ? cause.message : `${where} cannot be read`, cause)
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json))
    throw invalid(expected(where, 'a JSON object', json))
  return json
}

/** By what a key is, never by what it says its id is: a stranger's key may claim any. */
async function findKey(kid: string, keys: readonly JsonWebKey[]): Promise<JsonWebKey> {
  for (const key of keys) if (isSupported(key) && (await thumbprint(key)) === kid) return key
  const claimed = keys.some((key) => (key as { kid?: string }).kid === kid)
  throw new GraftError(
    'ERR_KEY_UNKNOWN',
    claimed
      ? `the signature names key ${JSON.stringify(kid)}, and the trusted key of that id has another thumbprint`
      : `the signature names key ${JSON.stringify(kid)}, which is not among the ${keys.length} trusted keys`,
  )
}

/** JWS flattened serialisation without an unprotected header (RFC 7515 section 7.2.2). */
export interface Flattened {
  protected: string
  payload: string
  signature: string
}

const verify = async (jws: Flattened, typ: JwsType, keys: readonly JsonWebKey[]) =>
  verifyFlattened(jws, typ, await findKey(parseHeader(jws.protected, typ).kid, keys))

/**
 * One signature, by the one key that the caller has chosen for it: whether `kid` names that key is the caller's to know.
 * @throws ERR_SIGNATURE_INVALID
 */
export async function verifyFlattened(
  jws: Flattened,
  typ: JwsType,
  jwk: JsonWebKey,
): Promise<{ payload: Uint8Array; kid: string }> {
  const { alg, kid } = parseHeader(jws.protected, typ)
  const { kty, crv } = ALGORITHMS[alg]
  if (jwk.kty !== kty || jwk.crv !== crv)
    throw invalid(expected(`key ${kid}`, `${kty} ${crv} for ${alg}`, `${jwk.kty} ${jwk.crv}`))
  if (jwk.use !== undefined && jwk.use !== 'sig')
    throw invalid(expected(`key ${kid}: use`, '"sig"', jwk.use))
  if (jwk.key_ops !== undefined && !jwk.key_ops.includes('verify'))
    throw invalid(expected(`key ${kid}: key_ops`, 'with "verify"', jwk.key_ops))
  const named = jwk.alg
  if (
    named !== undefined &&
    (!Object.hasOwn(ALGORITHMS, named) || ALGORITHMS[named as Algorithm].crv !== crv)
  )
    throw invalid(expected(`key ${kid}: alg`, alg, named))
  try {
    decodeBase64url(jws.payload, 'payload')
    decodeBase64url(jws.signature, 'signature')
    const key = await importJWK(jose(publicMembers(jwk)), alg)
    const { payload } = await flattenedVerify(jws, key, { algorithms: [alg] })
    return { payload, kid }
  } catch (cause) {
    throw invalid(`the signature of key ${kid} does not fit the payload`, cause)
  }
}

/** Signs the same payload with each key. */
export async function signEnvelope(
  payload: Uint8Array,
  typ: JwsType,
  keys: SigningKey[],
): Promise<SignedEnvelope> {
  const signed = await Promise.all(keys.map((key) => sign(payload, typ, key)))
  const signatures = signed.map((s) => ({ protected: s.protected, signature: s.signature }))
  return { payload: encodeBase64url(payload), signatures }
}

/** More signatures than a version ever needs; bounds the work that a stranger's envelope costs. */
export const MAX_SIGNATURES = 8

/**
 * Every signature is verified by itself; `kids` names them in order, each once.
 * @throws ERR_SIGNATURE_INVALID, and ERR_KEY_UNKNOWN when a signature names a key that is not given
 */
export async function verifyEnvelope(
  envelope: SignedEnvelope,
  typ: JwsType,
  keys: readonly JsonWebKey[],
): Promise<{ payload: Uint8Array; kids: string[] }> {
  // Envelopes come straight from the wire: null and other shapes are refused like any other.
  const { payload: encoded, signatures, ...rest } = envelope ?? {}
  if (typeof encoded !== 'string' || !Array.isArray(signatures) || Object.keys(rest).length > 0)
    throw invalid(expected('envelope', 'payload and signatures', Object.keys(envelope ?? {})))
  if (signatures.length === 0 || signatures.length > MAX_SIGNATURES)
    throw invalid(expected('envelope', `1 to ${MAX_SIGNATURES} signatures`, signatures.length))
  let payload: Uint8Array = new Uint8Array()
  const kids: string[] = []
  for (const entry of signatures) {
    if (typeof entry !== 'object' || entry === null)
      throw invalid(expected('signature', 'an object', entry))
    const unknown = Object.keys(entry).find((k) => k !== 'protected' && k !== 'signature')
    if (unknown !== undefined)
      throw invalid(expected('signature', 'protected and signature only', unknown))
    const { protected: header, signature } = entry
    const verified = await verify({ protected: header, signature, payload: encoded }, typ, keys)
    if (kids.includes(verified.kid))
      throw invalid(expected('signatures', 'one per key', verified.kid))
    kids.push(verified.kid)
    payload = verified.payload
  }
  return { payload, kids }
}

/** Compact serialisation over the canonical JSON of `payload`. */
export async function signCompact(payload: object, typ: JwsType, key: SigningKey): Promise<string> {
  const jws = await sign(canonicalBytes(payload), typ, key)
  return `${jws.protected}.${jws.payload}.${jws.signature}`
}

function split(jws: string): Flattened {
  const parts = typeof jws === 'string' ? jws.split('.') : []
  if (parts.length !== 3)
    throw invalid(expected('compact JWS', 'three parts', `${parts.length} parts`))
  return { protected: parts[0]!, payload: parts[1]!, signature: parts[2]! }
}

/** @throws ERR_SIGNATURE_INVALID, ERR_KEY_UNKNOWN */
export async function verifyCompact<T>(
  jws: string,
  typ: JwsType,
  keys: readonly JsonWebKey[],
): Promise<{ payload: T; kid: string }> {
  const flat = split(jws)
  const { kid } = await verify(flat, typ, keys)
  return { payload: parseJson(flat.payload, 'payload') as T, kid }
}

/** Header and payload of a compact JWS that nothing vouches for yet: to find a key or to show it. */
export function decodeUnverified<T = Record<string, unknown>>(
  jws: string,
): { header: Record<string, unknown>; payload: T } {
  const flat = split(jws)
  const header = parseJson(flat.protected, 'protected header')
  return { header, payload: parseJson(flat.payload, 'payload') as T }
}

/** Claims must hold `exp`, in seconds. */
export const signJwt = (claims: object, typ: JwsType, key: SigningKey): Promise<string> =>
  signCompact(claims, typ, key)

const refused = (code: ErrorCode, message: string, cause?: unknown) =>
  new GraftError(code, message, { cause })

/**
 * Signature, typ, expiry and, when asked for, audience.
 * @throws ERR_UNAUTHENTICATED, ERR_TOKEN_EXPIRED
 */
export async function verifyJwt<T>(
  token: string,
  typ: JwsType,
  keys: readonly JsonWebKey[],
  { now, audience }: { now: Date; audience?: string },
): Promise<T> {
  const { payload } = await verifyCompact<Record<string, unknown>>(token, typ, keys).catch((e) => {
    throw refused('ERR_UNAUTHENTICATED', `the token is refused: ${(e as Error).message}`, e)
  })
  const { exp, nbf, aud } = payload
  const seconds = now.getTime() / 1000
  if (typeof exp !== 'number')
    throw refused('ERR_UNAUTHENTICATED', expected('token: exp', 'seconds', exp))
  if (exp <= seconds)
    throw refused(
      'ERR_TOKEN_EXPIRED',
      `the token expired at ${new Date(exp * 1000).toISOString()}; get a new one`,
    )
  if (nbf !== undefined && !(typeof nbf === 'number' && nbf <= seconds))
    throw refused('ERR_UNAUTHENTICATED', expected('token: nbf', 'in the past', nbf))
  if (audience !== undefined && aud !== audience && !(Array.isArray(aud) && aud.includes(audience)))
    throw refused('ERR_UNAUTHENTICATED', expected('token: aud', JSON.stringify(audience), aud))
  return payload as T
}

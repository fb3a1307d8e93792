import { encodeBase64 } from './base64url.ts'
import { fromDer, toDer } from './ecdsa-der.ts'
import { expected, GraftError } from './errors.ts'
import { publicMembers, type SigningKey, thumbprint } from './jws.ts'

/**
 * Signatures over bytes, where no header says how: Ed25519 (RFC 8032), or ECDSA over P-256 and sha256 in DER. The kind
 * follows from the key alone, so there is no algorithm to be confused about.
 */
const ALGORITHM = {
  Ed25519: { name: 'Ed25519' },
  ES256: { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' },
} as const

export async function signBytes(key: SigningKey, bytes: Uint8Array): Promise<Uint8Array> {
  const data = bytes as Uint8Array<ArrayBuffer>
  const signed = await crypto.subtle.sign(ALGORITHM[key.alg], key.privateKey, data)
  const raw = new Uint8Array(signed)
  return key.alg === 'ES256' ? toDer(raw) : raw
}

/** A public JWK for WebCrypto. @throws ERR_KEY_UNKNOWN when it is not a key of an allowed kind */
export async function importPublicKey(jwk: JsonWebKey): Promise<CryptoKey> {
  await thumbprint(jwk)
  const algorithm = jwk.kty === 'OKP' ? ALGORITHM.Ed25519 : ALGORITHM.ES256
  try {
    return await crypto.subtle.importKey('jwk', publicMembers(jwk), algorithm, true, ['verify'])
  } catch (cause) {
    const what = expected('the key', 'a valid public key', publicMembers(jwk))
    throw new GraftError('ERR_KEY_UNKNOWN', what, { cause })
  }
}

/** @throws ERR_SIGNATURE_INVALID, ERR_KEY_UNKNOWN */
export async function verifyBytes(
  jwk: JsonWebKey,
  signature: Uint8Array,
  bytes: Uint8Array,
): Promise<void> {
  const key = await importPublicKey(jwk)
  const elliptic = jwk.kty === 'EC'
  const raw = (elliptic ? fromDer(signature) : signature) as Uint8Array<ArrayBuffer>
  const algorithm = elliptic ? ALGORITHM.ES256 : ALGORITHM.Ed25519
  if (await crypto.subtle.verify(algorithm, key, raw, bytes as Uint8Array<ArrayBuffer>)) return
  throw new GraftError(
    'ERR_SIGNATURE_INVALID',
    `the signature of key ${await thumbprint(jwk)} does not fit the payload`,
  )
}

/** SubjectPublicKeyInfo in PEM (RFC 7468), as other tools read and write public keys. */
export async function publicKeyPem(jwk: JsonWebKey): Promise<string> {
  const key = await importPublicKey(jwk)
  // Workers' types do not tell the formats apart: only 'jwk' gives a JsonWebKey.
  const der = new Uint8Array((await crypto.subtle.exportKey('spki', key)) as ArrayBuffer)
  const lines = encodeBase64(der).match(/.{1,64}/g) ?? []
  return `-----BEGIN PUBLIC KEY-----\n${lines.join('\n')}\n-----END PUBLIC KEY-----\n`
}

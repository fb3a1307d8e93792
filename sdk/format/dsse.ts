import { decodeBase64, encodeBase64 } from './base64url.ts'
import { concatBytes } from './bytes.ts'
import { type ErrorCode, expected, GraftError, isGraftError } from './errors.ts'
import { MAX_SIGNATURES, type SigningKey, thumbprint } from './jws.ts'
import { signBytes, verifyBytes } from './raw-signature.ts'

/** Dead Simple Signing Envelope v1 (secure-systems-lab/dsse, envelope.md): base64 of RFC 4648 section 4. */
export interface DsseEnvelope {
  payload: string
  payloadType: string
  /** `keyid` is the RFC 7638 thumbprint, the `kid` of a JWS. */
  signatures: { keyid: string; sig: string }[]
}

/** What a manifest is called where a payload type or a media type is asked for. */
export const MANIFEST_MEDIA_TYPE = 'application/vnd.graft.adapter.manifest.v1+json'
/** in-toto statements. */
export const STATEMENT_MEDIA_TYPE = 'application/vnd.in-toto+json'

const encode = (text: string): Uint8Array => new TextEncoder().encode(text)

/** PAE: `DSSEv1 SP len(type) SP type SP len(body) SP body`, lengths in bytes (protocol.md). This is what is signed. */
export function preAuthEncoding(payloadType: string, payload: Uint8Array): Uint8Array {
  const type = encode(payloadType)
  const head = encode(`DSSEv1 ${type.length} `)
  return concatBytes([head, type, encode(` ${payload.length} `), payload])
}

export async function signDsse(
  payload: Uint8Array,
  payloadType: string,
  keys: readonly SigningKey[],
): Promise<DsseEnvelope> {
  const data = preAuthEncoding(payloadType, payload)
  const signatures = await Promise.all(
    keys.map(async (key) => ({ keyid: key.kid, sig: encodeBase64(await signBytes(key, data)) })),
  )
  return { payload: encodeBase64(payload), payloadType, signatures }
}

const invalid = (message: string, cause?: unknown, code: ErrorCode = 'ERR_SIGNATURE_INVALID') =>
  new GraftError(code, message, { cause })

function base64(text: unknown, where: string): Uint8Array<ArrayBuffer> {
  if (typeof text !== 'string') throw invalid(expected(where, 'base64', text))
  try {
    return decodeBase64(text, where)
  } catch (cause) {
    throw invalid(isGraftError(cause) ? cause.message : `${where} cannot be read`, cause)
  }
}

/** Payload and signatures of an envelope whose shape is right; nothing is vouched for yet. */
export function openDsse(envelope: DsseEnvelope, payloadType: string) {
  const { payload, payloadType: type, signatures, ...rest } = envelope ?? {}
  const unknown = Object.keys(rest)[0]
  if (unknown !== undefined)
    throw invalid(expected('envelope', 'payload, payloadType and signatures only', unknown))
  // The type is signed with the payload, but only the reader knows what it asked for.
  if (type !== payloadType) throw invalid(expected('envelope: payloadType', payloadType, type))
  if (!Array.isArray(signatures) || signatures.length === 0 || signatures.length > MAX_SIGNATURES)
    throw invalid(expected('envelope', `1 to ${MAX_SIGNATURES} signatures`, signatures))
  const body = base64(payload, 'envelope: payload')
  return {
    payload: body,
    signed: preAuthEncoding(payloadType, body),
    signatures: signatures.map((entry: unknown, i) => {
      const { keyid, sig, ...others } = (entry ?? {}) as { keyid?: unknown; sig?: unknown }
      const where = `signatures[${i}]`
      if (Object.keys(others).length > 0 || (keyid !== undefined && typeof keyid !== 'string'))
        throw invalid(expected(where, 'keyid and sig only', entry))
      return { keyid: keyid ?? '', sig: base64(sig, `${where}.sig`) }
    }),
  }
}

/**
 * Every signature is verified by itself, with the trusted key that its keyid names; a key counts once.
 * @throws ERR_SIGNATURE_INVALID, ERR_KEY_UNKNOWN
 */
export async function verifyDsse(
  envelope: DsseEnvelope,
  payloadType: string,
  keys: readonly JsonWebKey[],
): Promise<{ payload: Uint8Array; kids: string[] }> {
  const { payload, signed, signatures } = openDsse(envelope, payloadType)
  const trusted = new Map<string, JsonWebKey>()
  for (const key of keys) trusted.set(await thumbprint(key), key)
  const kids: string[] = []
  for (const { keyid, sig } of signatures) {
    const key = trusted.get(keyid)
    if (!key)
      throw invalid(
        `the signature names key ${JSON.stringify(keyid)}, which is not among the ${keys.length} trusted keys`,
        undefined,
        'ERR_KEY_UNKNOWN',
      )
    if (kids.includes(keyid)) throw invalid(expected('signatures', 'one per key', keyid))
    await verifyBytes(key, sig, signed)
    kids.push(keyid)
  }
  return { payload, kids }
}

import { decodeBase64, encodeBase64, encodeBase64url } from '../base64url.ts'
import { concatBytes } from '../bytes.ts'
import { expected, GraftError } from '../errors.ts'

/** C2SP signed-note: which signature a key makes. */
export const NOTE_SIGNATURE = {
  /** Ed25519 over the text. */
  ed25519: 1,
  /** cosignature/v1: Ed25519 over a time and the text. */
  cosignature: 4,
} as const
export type NoteSignatureType = (typeof NOTE_SIGNATURE)[keyof typeof NOTE_SIGNATURE]

/** A key as a note's signature lines name it. */
export interface NoteKey {
  name: string
  /** Big-endian uint32 of the first 4 bytes of sha256(name, newline, type, key). */
  id: number
  type: NoteSignatureType
  publicJwk: JsonWebKey
}

/** No spaces of Unicode, no plus, no control characters: a name stands alone on a signature line. */
export const isKeyName = (name: string): boolean =>
  name.length > 0 && name.length <= 255 && !/[\s+\p{Cc}\p{Z}]/u.test(name)

const KEY_BYTES = 32

async function keyId(name: string, type: number, key: Uint8Array): Promise<number> {
  const text = new TextEncoder().encode(`${name}\n`)
  const sum = await crypto.subtle.digest('SHA-256', concatBytes([text, Uint8Array.of(type), key]))
  return new DataView(sum).getUint32(0)
}

const publicBytes = (jwk: JsonWebKey): Uint8Array<ArrayBuffer> => {
  if (jwk.kty === 'OKP' && jwk.crv === 'Ed25519' && typeof jwk.x === 'string') {
    const standard = jwk.x.replaceAll('-', '+').replaceAll('_', '/')
    const bytes = decodeBase64(standard.padEnd(44, '='), 'x')
    if (bytes.length === KEY_BYTES) return bytes
  }
  throw new GraftError('ERR_KEY_UNKNOWN', expected('note key', 'an Ed25519 key', jwk.crv))
}

/** @throws ERR_KEY_UNKNOWN for a name that a note cannot carry, or a key that is not Ed25519 */
export async function noteKey(
  name: string,
  type: NoteSignatureType,
  publicJwk: JsonWebKey,
): Promise<NoteKey> {
  if (!isKeyName(name))
    throw new GraftError('ERR_KEY_UNKNOWN', expected('note key name', 'without spaces or +', name))
  return { name, id: await keyId(name, type, publicBytes(publicJwk)), type, publicJwk }
}

const hex = (id: number): string => id.toString(16).padStart(8, '0')

/** The text form, a vkey: name, id and key, joined by "+". */
export const formatVerifierKey = ({ name, id, type, publicJwk }: NoteKey): string =>
  `${name}+${hex(id)}+${encodeBase64(concatBytes([Uint8Array.of(type), publicBytes(publicJwk)]))}`

/** @throws ERR_KEY_UNKNOWN for what is no vkey of Ed25519 or cosignature/v1, or whose id is another key's */
export async function parseVerifierKey(text: string, where = 'log key'): Promise<NoteKey> {
  const refuse = (why: string, cause?: unknown) =>
    new GraftError('ERR_KEY_UNKNOWN', expected(where, why, text), { cause })
  // The base64 may hold a plus too: only the first two part the fields.
  const match = /^([^+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/=]+)$/.exec(text)
  if (!match) throw refuse('"<name>+<8 hex digits>+<base64>"')
  const [, name = '', id = '', encoded = ''] = match
  let bytes: Uint8Array
  try {
    bytes = decodeBase64(encoded, where)
  } catch (cause) {
    throw refuse('base64 after the second "+"', cause)
  }
  const type = Object.values(NOTE_SIGNATURE).find((known) => known === bytes[0])
  if (type === undefined || bytes.length !== KEY_BYTES + 1)
    throw refuse('an Ed25519 key of type 1 or 4')
  const x = encodeBase64url(bytes.subarray(1))
  const key = await noteKey(name, type, { kty: 'OKP', crv: 'Ed25519', x })
  if (hex(key.id) !== id) throw refuse(`the id ${hex(key.id)}, which is that key's`)
  return key
}

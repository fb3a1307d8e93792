import { concatBytes } from '../bytes.ts'
import { expected, GraftError } from '../errors.ts'
import type { SigningKey } from '../jws.ts'
import { signBytes, verifyBytes } from '../raw-signature.ts'
import { type Note, type NoteSignature, signatureOf } from './signed-note.ts'
import { NOTE_SIGNATURE, type NoteKey, noteKey } from './verifier-key.ts'

const ED25519_BYTES = 64
const TIME_BYTES = 8

const encode = (text: string): Uint8Array<ArrayBuffer> =>
  Uint8Array.from(new TextEncoder().encode(text))

/** C2SP tlog-cosignature: the header keeps a cosignature from ever being read as a plain signature. */
const cosigned = (text: string, seconds: number): Uint8Array<ArrayBuffer> =>
  encode(`cosignature/v1\ntime ${seconds}\n${text}`)

/** Ed25519 over the text of a note. */
export async function signNote(
  text: string,
  name: string,
  key: SigningKey,
): Promise<NoteSignature> {
  const { id } = await noteKey(name, NOTE_SIGNATURE.ed25519, key.publicJwk)
  return { name, id, bytes: Uint8Array.from(await signBytes(key, encode(text))) }
}

/** cosignature/v1: that at this time the tree was the largest known. @param at POSIX seconds */
export async function cosignNote(
  text: string,
  name: string,
  key: SigningKey,
  at: number,
): Promise<NoteSignature> {
  const { id } = await noteKey(name, NOTE_SIGNATURE.cosignature, key.publicJwk)
  const time = new Uint8Array(TIME_BYTES)
  new DataView(time.buffer).setBigUint64(0, BigInt(at))
  const signature = await signBytes(key, cosigned(text, at))
  return { name, id, bytes: concatBytes([time, signature]) }
}

/** When a key signed; null for a plain signature, which carries no time. */
export interface VerifiedSignature {
  /** POSIX seconds. */
  time: number | null
}

/**
 * A note's signature by this key.
 * @returns null when the note has none of it
 * @throws ERR_SIGNATURE_INVALID when it has one that does not fit: the note is then not to be used at all
 */
export async function verifyNote(note: Note, key: NoteKey): Promise<VerifiedSignature | null> {
  const found = signatureOf(note, key)
  if (found === null) return null
  const timed = key.type === NOTE_SIGNATURE.cosignature
  const head = timed ? TIME_BYTES : 0
  const { bytes } = found
  if (bytes.length !== head + ED25519_BYTES)
    throw new GraftError(
      'ERR_SIGNATURE_INVALID',
      expected(`signature of ${key.name}`, `${head + ED25519_BYTES} bytes`, bytes.length),
    )
  const time = timed ? Number(new DataView(bytes.buffer).getBigUint64(0)) : null
  if (time !== null && !Number.isSafeInteger(time))
    throw new GraftError(
      'ERR_SIGNATURE_INVALID',
      expected(`time of ${key.name}`, 'POSIX seconds', time),
    )
  const message = time === null ? encode(note.text) : cosigned(note.text, time)
  await verifyBytes(key.publicJwk, bytes.slice(head), message)
  return { time }
}

import { expected, GraftError } from './errors.ts'

/** String.fromCharCode takes its bytes as arguments; more than this overflows the stack on some engines. */
const CHUNK_BYTES = 0x8000

/** RFC 4648 section 4, padded. */
export function encodeBase64(bytes: Uint8Array): string {
  let binary = ''
  for (let at = 0; at < bytes.length; at += CHUNK_BYTES)
    binary += String.fromCharCode(...bytes.subarray(at, at + CHUNK_BYTES))
  return btoa(binary)
}

/** @throws ERR_REQUEST_INVALID for another alphabet, absent padding, white space or stray bits in the last letter */
export function decodeBase64(text: string, where = 'base64'): Uint8Array<ArrayBuffer> {
  const invalid = () => new GraftError('ERR_REQUEST_INVALID', expected(where, 'base64', text))
  if (text.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(text)) throw invalid()
  const binary = atob(text)
  const bytes = new Uint8Array(binary.length)
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i)
  // Two texts must never mean the same bytes: the unused bits of the last group are zero.
  if (encodeBase64(bytes.subarray(bytes.length - (bytes.length % 3 || 3))) !== text.slice(-4))
    throw invalid()
  return bytes
}

/** RFC 4648 section 5, without padding. */
export const encodeBase64url = (bytes: Uint8Array): string =>
  encodeBase64(bytes).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '')

/** @throws ERR_REQUEST_INVALID as decodeBase64 does; padding is refused too */
export function decodeBase64url(text: string, where = 'base64url'): Uint8Array<ArrayBuffer> {
  if (!/^[A-Za-z0-9_-]*$/.test(text) || text.length % 4 === 1)
    throw new GraftError('ERR_REQUEST_INVALID', expected(where, 'base64url', text))
  const plain = text.replaceAll('-', '+').replaceAll('_', '/')
  return decodeBase64(plain.padEnd(Math.ceil(plain.length / 4) * 4, '='), where)
}

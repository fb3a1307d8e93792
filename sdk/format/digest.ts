import { expected, GraftError } from './errors.ts'

declare const digestBrand: unique symbol
/** "sha256:" and 64 hex digits. */
export type Digest = `sha256:${string}` & { readonly [digestBrand]: true }

export const isDigest = (input: unknown): input is Digest =>
  typeof input === 'string' && /^sha256:[0-9a-f]{64}$/.test(input)

export function parseDigest(input: unknown, where = 'digest'): Digest {
  if (isDigest(input)) return input
  throw new GraftError('ERR_DIGEST_INVALID', expected(where, '"sha256:" and 64 hex digits', input))
}

const hex = (bytes: Uint8Array): string =>
  Array.from(bytes, (b) => b.toString(16).padStart(2, '0')).join('')

/** For bytes already in memory; streams are hashed by the stores, which know their platform. */
export async function sha256(bytes: Uint8Array | string): Promise<Digest> {
  const data = typeof bytes === 'string' ? new TextEncoder().encode(bytes) : bytes
  const sum = await crypto.subtle.digest('SHA-256', data as Uint8Array<ArrayBuffer>)
  return `sha256:${hex(new Uint8Array(sum))}` as Digest
}

export const fromHex = (sum: string): Digest => parseDigest(`sha256:${sum}`)

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

/** A sum that is fed piece by piece. */
export interface HashStream {
  /** The pieces are held until the end, so they must not be written to. */
  readonly holds?: boolean
  update(bytes: Uint8Array): void
  digest(): Digest | Promise<Digest>
}

/** How streams are hashed: each platform has its own way (Node's createHash, Workers' DigestStream). */
export type CreateHash = () => HashStream

/** Runs everywhere, but WebCrypto hashes whole values only: the pieces are held until the end. */
export const heldHash: CreateHash = () => {
  const pieces: Uint8Array[] = []
  return {
    holds: true,
    update: (bytes) => void pieces.push(bytes),
    async digest() {
      if (pieces.length === 1) return sha256(pieces[0]!)
      const whole = new Uint8Array(pieces.reduce((sum, { length }) => sum + length, 0))
      let at = 0
      for (const piece of pieces) {
        whole.set(piece, at)
        at += piece.length
      }
      return sha256(whole)
    },
  }
}

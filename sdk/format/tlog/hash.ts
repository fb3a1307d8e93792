import { concatBytes } from '../bytes.ts'

/** 32 bytes of SHA-256. */
export type Hash = Uint8Array<ArrayBuffer>

export const HASH_BYTES = 32

const sha256 = async (bytes: Uint8Array<ArrayBuffer>): Promise<Hash> =>
  new Uint8Array(await crypto.subtle.digest('SHA-256', bytes))

/** RFC 6962 section 2.1: a leaf and an inner node hash differently, so neither can pass for the other. */
const LEAF = Uint8Array.of(0)
const INNER = Uint8Array.of(1)

export const leafHash = (entry: Uint8Array): Promise<Hash> => sha256(concatBytes([LEAF, entry]))

export const innerHash = (left: Hash, right: Hash): Promise<Hash> =>
  sha256(concatBytes([INNER, left, right]))

/** The root of a tree without leaves: SHA-256 of nothing. */
export const emptyRoot = (): Promise<Hash> => sha256(new Uint8Array(0))

export const sameHash = (a: Hash, b: Hash): boolean =>
  a.length === b.length && a.every((byte, i) => byte === b[i])

/** Root of a complete subtree. @param hashes 2^k nodes of one level, left to right */
export async function foldComplete(hashes: readonly Hash[]): Promise<Hash> {
  let level = [...hashes]
  while (level.length > 1) {
    const above: Promise<Hash>[] = []
    for (let i = 0; i < level.length; i += 2) above.push(innerHash(level[i]!, level[i + 1]!))
    level = await Promise.all(above)
  }
  return level[0]!
}

import { createHash } from 'node:crypto'
import type { Hash } from '@graft/sdk/format/tlog/hash.ts'

/** RFC 6962 section 2.1 word by word, slow and without any sharing, over Node's hash: what ours is held against. */
const sha256 = (...parts: Uint8Array[]): Hash => {
  const hash = createHash('sha256')
  for (const part of parts) hash.update(part)
  return new Uint8Array(hash.digest())
}

const splitOf = (n: number): number => {
  let k = 1
  while (k << 1 < n) k <<= 1
  return k
}

export const naiveLeaf = (entry: Uint8Array): Hash => sha256(Uint8Array.of(0), entry)

export function naiveRoot(entries: readonly Uint8Array[]): Hash {
  if (entries.length === 0) return sha256()
  if (entries.length === 1) return naiveLeaf(entries[0]!)
  const k = splitOf(entries.length)
  return sha256(Uint8Array.of(1), naiveRoot(entries.slice(0, k)), naiveRoot(entries.slice(k)))
}

/** PATH(m, D[n]). */
export function naivePath(m: number, entries: readonly Uint8Array[]): Hash[] {
  if (entries.length === 1) return []
  const k = splitOf(entries.length)
  const [left, right] = [entries.slice(0, k), entries.slice(k)]
  return m < k
    ? [...naivePath(m, left), naiveRoot(right)]
    : [...naivePath(m - k, right), naiveRoot(left)]
}

/** PROOF(m, D[n]) for 0 < m < n. */
export const naiveProof = (m: number, entries: readonly Uint8Array[]): Hash[] =>
  subproof(m, entries, true)

function subproof(m: number, entries: readonly Uint8Array[], whole: boolean): Hash[] {
  const n = entries.length
  if (m === n) return whole ? [] : [naiveRoot(entries)]
  const k = splitOf(n)
  const [left, right] = [entries.slice(0, k), entries.slice(k)]
  return m <= k
    ? [...subproof(m, left, whole), naiveRoot(right)]
    : [...subproof(m - k, right, false), naiveRoot(left)]
}

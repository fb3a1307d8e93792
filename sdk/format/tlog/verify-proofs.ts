import { expected, GraftError } from '../errors.ts'
import { type Hash, innerHash, sameHash } from './hash.ts'

const forged = (what: string): GraftError => new GraftError('ERR_DIGEST_MISMATCH', what)

const half = (n: number): number => Math.floor(n / 2)
const isOdd = (n: number): boolean => n % 2 === 1
const isSize = (n: number): boolean => Number.isSafeInteger(n) && n >= 0

/** A tree as one knows it: how many leaves, and their root. */
export interface TreeHead {
  size: number
  root: Hash
}

/**
 * That `leaf` is number `index` of the tree (RFC 9162 section 2.1.3.2).
 * @throws ERR_DIGEST_MISMATCH for a proof that does not lead to the root
 */
export async function verifyInclusion(
  leaf: Hash,
  index: number,
  tree: TreeHead,
  proof: readonly Hash[],
): Promise<void> {
  if (!isSize(index) || !isSize(tree.size) || index >= tree.size)
    throw forged(expected('leaf of the inclusion proof', `below the tree's ${tree.size}`, index))
  let [at, last, root] = [index, tree.size - 1, leaf]
  for (const hash of proof) {
    if (last === 0) throw forged(`the inclusion proof of leaf ${index} has hashes to spare`)
    if (isOdd(at) || at === last) {
      root = await innerHash(hash, root)
      while (!isOdd(at) && at !== 0) [at, last] = [half(at), half(last)]
    } else root = await innerHash(root, hash)
    ;[at, last] = [half(at), half(last)]
  }
  if (last !== 0) throw forged(`the inclusion proof of leaf ${index} ends before the root`)
  if (!sameHash(root, tree.root))
    throw forged(`the inclusion proof of leaf ${index} leads to another root than the log signed`)
}

/**
 * That the tree `older` is the beginning of `newer` (RFC 9162 section 2.1.4.2).
 * @throws ERR_DIGEST_MISMATCH when the newer tree is smaller, or holds another past
 */
export async function verifyConsistency(
  older: TreeHead,
  newer: TreeHead,
  proof: readonly Hash[],
): Promise<void> {
  if (!isSize(older.size) || !isSize(newer.size) || newer.size < older.size)
    throw forged(expected('the newer tree', `of ${older.size} leaves or more`, newer.size))
  const differs = (which: string) =>
    forged(
      `the log's tree of ${newer.size} leaves is not a continuation of the one of ${older.size} (${which})`,
    )
  if (older.size === 0 || older.size === newer.size) {
    if (proof.length > 0) throw differs('a proof where none is needed')
    if (older.size === newer.size && !sameHash(older.root, newer.root)) throw differs('other root')
    return
  }
  const path = [...proof]
  let [first, last] = [older.size - 1, newer.size - 1]
  while (isOdd(first)) [first, last] = [half(first), half(last)]
  // When the older tree is complete, its root starts the path.
  const start = first === 0 ? older.root : path.shift()
  if (start === undefined) throw differs('the proof is too short')
  let [oldRoot, newRoot] = [start, start]
  for (const hash of path) {
    if (last === 0) throw differs('the proof is too long')
    if (isOdd(first) || first === last) {
      oldRoot = await innerHash(hash, oldRoot)
      newRoot = await innerHash(hash, newRoot)
      while (!isOdd(first) && first !== 0) [first, last] = [half(first), half(last)]
    } else newRoot = await innerHash(newRoot, hash)
    ;[first, last] = [half(first), half(last)]
  }
  if (last !== 0) throw differs('the proof is too short')
  if (!sameHash(oldRoot, older.root)) throw differs('another past')
  if (!sameHash(newRoot, newer.root)) throw differs('another present')
}

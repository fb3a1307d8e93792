import { expected, GraftError } from '../errors.ts'
import { emptyRoot, type Hash, innerHash } from './hash.ts'

/**
 * Reads the root of the complete subtree of 2^level leaves that starts at leaf index * 2^level. Whatever a tree is
 * computed from (tiles, rows of a table) is behind it.
 */
export type ReadNode = (level: number, index: number) => Promise<Hash>

/** The largest power of two below `size` (RFC 6962 section 2.1), for size >= 2. No bit operations: sizes pass 2^31. */
function splitOf(size: number): number {
  let split = 1
  while (split * 2 < size) split *= 2
  return split
}

const isPowerOfTwo = (size: number): boolean => size === 1 || splitOf(size) * 2 === size

/** MTH(D[begin:end]) for the ranges that RFC 6962's recursion meets: begin is a multiple of every split of the range. */
async function rangeRoot(begin: number, end: number, read: ReadNode): Promise<Hash> {
  const size = end - begin
  if (isPowerOfTwo(size)) return read(Math.log2(size), begin / size)
  const middle = begin + splitOf(size)
  const [left, right] = await Promise.all([
    rangeRoot(begin, middle, read),
    rangeRoot(middle, end, read),
  ])
  return innerHash(left, right)
}

/** The Merkle Tree Hash of the first `size` leaves. */
export const treeRoot = (size: number, read: ReadNode): Promise<Hash> =>
  size === 0 ? emptyRoot() : rangeRoot(0, size, read)

const assertRange = (what: string, value: number, low: number, high: number): void => {
  if (Number.isSafeInteger(value) && value >= low && value <= high) return
  throw new GraftError(
    'ERR_REQUEST_INVALID',
    expected(what, `an integer from ${low} to ${high}`, value),
  )
}

/**
 * The hashes that lead from leaf `index` to the root of `size` leaves, lowest first (RFC 9162 section 2.1.3.1).
 * @throws ERR_REQUEST_INVALID for a leaf outside the tree
 */
export async function proveInclusion(index: number, size: number, read: ReadNode): Promise<Hash[]> {
  assertRange('tree size', size, 1, Number.MAX_SAFE_INTEGER)
  assertRange('leaf', index, 0, size - 1)
  const path: Promise<Hash>[] = []
  let [begin, end] = [0, size]
  while (end - begin > 1) {
    const middle = begin + splitOf(end - begin)
    if (index < middle) {
      path.unshift(rangeRoot(middle, end, read))
      end = middle
    } else {
      path.unshift(rangeRoot(begin, middle, read))
      begin = middle
    }
  }
  return Promise.all(path)
}

/**
 * The hashes that show the tree of `older` leaves to be the beginning of the one of `size` (RFC 9162 section 2.1.4.1).
 * Nothing is needed from an empty tree or to itself.
 * @throws ERR_REQUEST_INVALID when `older` is beyond `size`
 */
export async function proveConsistency(
  older: number,
  size: number,
  read: ReadNode,
): Promise<Hash[]> {
  assertRange('older tree size', older, 0, size)
  if (older === 0 || older === size) return []
  const path: Promise<Hash>[] = []
  let [begin, end] = [0, size]
  while (end !== older) {
    const middle = begin + splitOf(end - begin)
    if (older <= middle) {
      path.unshift(rangeRoot(middle, end, read))
      end = middle
    } else {
      path.unshift(rangeRoot(begin, middle, read))
      begin = middle
    }
  }
  // A subtree that starts at leaf 0 is the older tree itself, whose root the verifier has.
  if (begin > 0) path.unshift(rangeRoot(begin, end, read))
  return Promise.all(path)
}

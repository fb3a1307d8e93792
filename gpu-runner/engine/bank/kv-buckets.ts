/** Positions of the smallest seat. Every capacity is a multiple of it. */
const LEAST = 64

/**
 * Capacities of seats: steps of a third to a half, so that a row's past view is at most a third empty and a sequence
 * that grows is moved seldom. Multiples of 64 keep a position in the same lane of every vector loop that sums over
 * positions, so that a row's bits do not depend on the capacity it sits at.
 */
export function bucketFor(positions: number): number {
  let size = LEAST
  while (size < positions) {
    const half = size + size / 2
    if (half >= positions && half % LEAST === 0) return half
    size *= 2
  }
  return size
}

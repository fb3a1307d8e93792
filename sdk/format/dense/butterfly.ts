import { cayley } from './cayley.ts'
import { rotateBlocks } from './rotation.ts'
import type { RowMap } from './row-map.ts'

export interface ButterflyOptions {
  in: number
  blockSize: number
  /** Levels of the butterfly. */
  factors: number
}

/**
 * BOFT (arXiv 2311.06243): W' = diag(s) W M^T, M = M_last ... M_0, M_i = P_i D_i P_i^T, D_i block diagonal with the rotations
 * Cayley((R - R^T) / 2) and P_i the butterfly's permutation of level i. The bias is not scaled.
 * @param r [factors, in / blockSize, blockSize, blockSize]
 * @param s [out]
 */
export function butterflyRows(
  r: Float32Array,
  s: Float32Array,
  { in: inner, blockSize: size, factors }: ButterflyOptions,
): RowMap {
  const blocks = inner / size
  const levels = Array.from({ length: factors }, (_, level) => ({
    order: butterflyOrder(inner, size, level, factors),
    rotations: Array.from({ length: blocks }, (_, block) => {
      const at = (level * blocks + block) * size * size
      return rotationOf(r.subarray(at, at + size * size), size)
    }),
  }))
  const sorted = new Float64Array(inner)
  return (row, o) => {
    for (const { order, rotations } of levels) {
      // P^T puts element a at place order[a], and P takes it back.
      for (let a = 0; a < inner; a++) sorted[order[a]!] = row[a]!
      rotateBlocks(sorted, rotations, size)
      for (let a = 0; a < inner; a++) row[a] = sorted[order[a]!]!
    }
    for (let i = 0; i < inner; i++) row[i]! *= s[o]!
  }
}

function rotationOf(r: Float32Array, size: number): Float64Array {
  const q = new Float64Array(size * size)
  for (let i = 0; i < size; i++)
    for (let j = 0; j < size; j++) q[i * size + j] = (r[i * size + j]! - r[j * size + i]!) / 2
  return cayley(q, size)
}

/**
 * Row a of P has its 1 in column order[a]: within each stretch of blockSize * 2^level, pieces of half a block are
 * taken even ones first, then odd ones. A single level leaves the order as it is.
 */
export function butterflyOrder(
  length: number,
  blockSize: number,
  level: number,
  factors: number,
): Uint32Array {
  const order = Uint32Array.from({ length }, (_, a) => a)
  if (factors === 1) return order
  const stretch = blockSize * 2 ** level
  const piece = blockSize / 2
  const pieces = stretch / piece
  for (let begin = 0; begin < length; begin += stretch)
    for (let p = 0; p < pieces; p++) {
      const from = p < pieces / 2 ? 2 * p : 2 * p - pieces + 1
      for (let i = 0; i < piece; i++) order[begin + p * piece + i] = begin + from * piece + i
    }
  return order
}

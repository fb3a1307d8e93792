import { product } from './row-map.ts'

/** Q [size, size] with Q = -Q^T from its upper triangle, row by row. */
export function skewSymmetric(upper: ArrayLike<number>, size: number): Float64Array {
  const q = new Float64Array(size * size)
  let at = 0
  for (let i = 0; i < size; i++)
    for (let j = i + 1; j < size; j++) {
      q[i * size + j] = upper[at]!
      q[j * size + i] = -upper[at++]!
    }
  return q
}

/** R = (I - Q)(I + Q)^-1 [size, size], a rotation where Q = -Q^T, for which I + Q always has an inverse. */
export function cayley(q: Float64Array, size: number): Float64Array {
  const left = new Float64Array(size * size)
  const right = new Float64Array(size * size)
  for (let i = 0; i < size * size; i++) {
    const one = i % (size + 1) === 0 ? 1 : 0
    left[i] = one + q[i]!
    right[i] = one - q[i]!
  }
  // Both are polynomials of Q and commute: (I + Q) R = I - Q.
  return solve(left, right, size)
}

/** R = c[0] I + c[1] Q + c[2] Q^2 + ...: the truncated Neumann series that PEFT puts in the place of Cayley's map. */
export function matrixSeries(q: Float64Array, size: number, c: readonly number[]): Float64Array {
  const r = new Float64Array(size * size)
  let power = 0
  for (let term = c.length - 1; term >= 0; term--) {
    if (power++ > 0) r.set(product(r, q, [size, size, size]))
    for (let i = 0; i < size; i++) r[i * size + i]! += c[term]!
  }
  return r
}

/** X with A X = B, both [size, size] and overwritten: elimination with the largest pivot of each column. */
function solve(a: Float64Array, b: Float64Array, size: number): Float64Array {
  const swap = (m: Float64Array, i: number, j: number): void => {
    for (let k = 0; k < size; k++) {
      const kept = m[i * size + k]!
      m[i * size + k] = m[j * size + k]!
      m[j * size + k] = kept
    }
  }
  for (let p = 0; p < size; p++) {
    let best = p
    for (let i = p + 1; i < size; i++)
      if (Math.abs(a[i * size + p]!) > Math.abs(a[best * size + p]!)) best = i
    if (best !== p) {
      swap(a, p, best)
      swap(b, p, best)
    }
    for (let i = 0; i < size; i++) {
      if (i === p) continue
      const factor = a[i * size + p]! / a[p * size + p]!
      if (factor === 0) continue
      for (let k = p; k < size; k++) a[i * size + k]! -= factor * a[p * size + k]!
      for (let k = 0; k < size; k++) b[i * size + k]! -= factor * b[p * size + k]!
    }
  }
  for (let i = 0; i < size; i++) for (let k = 0; k < size; k++) b[i * size + k]! /= a[i * size + i]!
  return b
}

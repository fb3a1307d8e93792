import { denseNorm } from './dense/norm.ts'
import type { Operation } from './operations.ts'

/**
 * G[i, j] = row i times row j of M [rows, length], each summed in f64 from the first element on. Four sums at a time: one by
 * one each addition would wait for the one before.
 */
function gram(m: Float32Array, rows: number): Float64Array {
  const length = m.length / rows
  const g = new Float64Array(rows * rows)
  for (let i = 0; i < rows; i++) {
    const a = i * length
    for (let j = i; j < rows; j += 4) {
      // Past the last row the same one is summed again, and nothing is kept of it.
      const at = (n: number): number => Math.min(j + n, rows - 1) * length
      const [b, c, d, e] = [at(0), at(1), at(2), at(3)]
      let [p, q, r, s] = [0, 0, 0, 0]
      for (let k = 0; k < length; k++) {
        const x = m[a + k]!
        p += x * m[b + k]!
        q += x * m[c + k]!
        r += x * m[d + k]!
        s += x * m[e + k]!
      }
      for (const [n, sum] of [p, q, r, s].entries())
        if (j + n < rows) g[i * rows + j + n] = g[(j + n) * rows + i] = sum
    }
  }
  return g
}

/** Columns of M [length, columns] as rows: strides of a long matrix would miss the cache at every step. */
function columnsOf(m: Float32Array, columns: number): Float32Array {
  const length = m.length / columns
  const out = new Float32Array(m.length)
  for (let k = 0; k < length; k++)
    for (let j = 0; j < columns; j++) out[j * length + k] = m[k * columns + j]!
  return out
}

/**
 * ||s B A||_F without forming the product: |s| sqrt(trace((B^T B)(A A^T))). A [rank, in], B [out, rank].
 * The same for every tool's file of one adapter, and for any A, B that share a product.
 */
export function lowRankNorm(a: Float32Array, b: Float32Array, rank: number, scale: number): number {
  const aa = gram(a, rank)
  const bb = gram(columnsOf(b, rank), rank)
  return (
    Math.abs(scale) *
    Math.sqrt(
      Math.max(
        0,
        aa.reduce((sum, v, i) => sum + v * bb[i]!, 0),
      ),
    )
  )
}

/** Row r of M [rows, ...] times v[r]. */
function scaleRows(m: Float32Array, v: Float32Array): Float32Array {
  const width = m.length / v.length
  return m.map((value, i) => value * v[Math.floor(i / width)]!)
}

/** ||dW||_F of one operation; null where the base's weights are part of it, and for what is no weight change. */
export function deltaNorm(op: Operation, values: (tensor: string) => Float32Array): number | null {
  if (op.op === 'dense') return denseNorm(op, values)
  if (op.op !== 'low_rank' && op.op !== 'magnitude') return null
  const { slots, rank } = op
  let [a, b] = [values(slots.A), values(slots.B)]
  if ('E' in slots && slots.E !== undefined) a = scaleRows(a, values(slots.E))
  if ('D' in slots && slots.D !== undefined) b = scaleRows(b, values(slots.D))
  const stacks = ('experts' in op ? op.experts : undefined) ?? 1
  const [x, y] = [a.length / stacks, b.length / stacks]
  const norms = Array.from({ length: stacks }, (_, s) =>
    lowRankNorm(
      a.subarray(s * x, (s + 1) * x),
      b.subarray(s * y, (s + 1) * y),
      rank,
      Number(op.scale),
    ),
  )
  return Math.hypot(...norms)
}

import { denseNorm } from './dense/norm.ts'
import type { Operation } from './operations.ts'

/** G[i, j] = sum over the long axis of M's row i times row j. M [rows, length] read by strides. */
function gram(m: Float32Array, rows: number, rowStride: number, step: number): Float64Array {
  const length = m.length / rows
  const g = new Float64Array(rows * rows)
  for (let i = 0; i < rows; i++)
    for (let j = i; j < rows; j++) {
      let sum = 0
      for (let k = 0; k < length; k++)
        sum += m[i * rowStride + k * step]! * m[j * rowStride + k * step]!
      g[i * rows + j] = g[j * rows + i] = sum
    }
  return g
}

/**
 * ||s B A||_F without forming the product: |s| sqrt(trace((B^T B)(A A^T))). A [rank, in], B [out, rank].
 * The same for every tool's file of one adapter, and for any A, B that share a product.
 */
export function lowRankNorm(a: Float32Array, b: Float32Array, rank: number, scale: number): number {
  const aa = gram(a, rank, a.length / rank, 1)
  const bb = gram(b, rank, 1, rank)
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

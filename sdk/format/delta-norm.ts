import { denseNorm } from './dense/norm.ts'
import { toFloat32 } from './dtypes.ts'
import { GraftError } from './errors.ts'
import type { Operation } from './operations.ts'
import type { Tensor } from './safetensors.ts'

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

/** Frobenius norm of the weight change per site of `low_rank`, `magnitude` (without m) and `dense` but what needs the base. */
export function deltaNorms(
  operations: readonly Operation[],
  tensors: ReadonlyMap<string, Tensor>,
): Map<string, number> {
  const values = (name: string): Float32Array => {
    const tensor = tensors.get(name)
    if (!tensor) throw new GraftError('ERR_TENSOR_MISSING', `tensor ${name} is not in the file`)
    return toFloat32(tensor.dtype, tensor.data)
  }
  const norms = new Map<string, number>()
  for (const op of operations)
    if (op.op === 'low_rank' || op.op === 'magnitude')
      norms.set(
        op.site,
        lowRankNorm(values(op.slots.A), values(op.slots.B), op.rank, Number(op.scale)),
      )
    else if (op.op === 'dense') {
      const norm = denseNorm(op, values)
      if (norm !== null) norms.set(op.site, norm)
    }
  return norms
}

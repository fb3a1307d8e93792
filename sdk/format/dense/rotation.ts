import { cayley, matrixSeries, skewSymmetric } from './cayley.ts'
import type { RowMap } from './row-map.ts'

export interface RotationOptions {
  in: number
  blockSize: number
  /** One Q for all blocks. */
  shared: boolean
  /** Coefficients of the powers of Q; null = Cayley's map itself. */
  series: readonly number[] | null
  /** Longest Frobenius norm of a Q; a longer one is shortened to it. null = any. */
  maxNorm: number | null
}

/**
 * OFT (arXiv 2306.07280, 2506.19847): the input's blocks are rotated before W, x' = x R per block, so W' = W R^T.
 * @param upper of Q, row by row: [shared ? 1 : in / blockSize, blockSize (blockSize - 1) / 2]
 */
export function rotationRows(upper: Float32Array, options: RotationOptions): RowMap {
  const { in: inner, blockSize: size, shared } = options
  const blocks = inner / size
  const elements = (size * (size - 1)) / 2
  const rotations = Array.from({ length: shared ? 1 : blocks }, (_, block) =>
    rotationOf(upper.subarray(block * elements, (block + 1) * elements), options),
  )
  const kept = new Float64Array(size)
  return (row) => {
    for (let block = 0; block < blocks; block++) {
      const r = rotations[shared ? 0 : block]!
      kept.set(row.subarray(block * size, (block + 1) * size))
      for (let k = 0; k < size; k++) {
        let sum = 0
        for (let c = 0; c < size; c++) sum += kept[c]! * r[k * size + c]!
        row[block * size + k] = sum
      }
    }
  }
}

function rotationOf(
  upper: Float32Array,
  { blockSize, series, maxNorm }: RotationOptions,
): Float64Array {
  const q = skewSymmetric(upper, blockSize)
  const norm = Math.hypot(...q)
  if (maxNorm !== null && norm > maxNorm) for (let i = 0; i < q.length; i++) q[i]! *= maxNorm / norm
  return series ? matrixSeries(q, blockSize, series) : cayley(q, blockSize)
}

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
  const elements = (size * (size - 1)) / 2
  const rotations = Array.from({ length: shared ? 1 : inner / size }, (_, block) =>
    rotationOf(upper.subarray(block * elements, (block + 1) * elements), options),
  )
  return (row) => rotateBlocks(row, rotations, size)
}

/** v = D v in place, D block diagonal with the rotations [size, size]; a single one stands in every block. */
export function rotateBlocks(
  v: Float64Array,
  rotations: readonly Float64Array[],
  size: number,
): void {
  for (let begin = 0; begin < v.length; begin += size) {
    const r = rotations[rotations.length === 1 ? 0 : begin / size]!
    const kept = v.slice(begin, begin + size)
    for (let k = 0; k < size; k++) {
      let sum = 0
      for (let c = 0; c < size; c++) sum += kept[c]! * r[k * size + c]!
      v[begin + k] = sum
    }
  }
}

function rotationOf(
  upper: Float32Array,
  { blockSize, series, maxNorm }: RotationOptions,
): Float64Array {
  const q = skewSymmetric(upper, blockSize)
  const norm = Math.sqrt(q.reduce((sum, value) => sum + value * value, 0))
  if (maxNorm !== null && norm > maxNorm) for (let i = 0; i < q.length; i++) q[i]! *= maxNorm / norm
  return series ? matrixSeries(q, blockSize, series) : cayley(q, blockSize)
}

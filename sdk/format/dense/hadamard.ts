import { type Factors, product, type RowMap } from './row-map.ts'

/** w1a, w2a [out, rank]; w1b, w2b [rank, in]. */
export interface HadamardTensors {
  w1a: Float32Array
  w1b: Float32Array
  w2a: Float32Array
  w2b: Float32Array
}

/** FedPara (arXiv 2108.06098), LoHa of PEFT: W + scale * (w1a w1b) o (w2a w2b), o elementwise. */
export function hadamardRows(
  { w1a, w1b, w2a, w2b }: HadamardTensors,
  { in: inner, rank, scale }: { in: number; rank: number; scale: number },
): RowMap {
  return (row, o) => {
    const at = o * rank
    const left = product(w1a.subarray(at, at + rank), w1b, [1, rank, inner])
    const right = product(w2a.subarray(at, at + rank), w2b, [1, rank, inner])
    for (let i = 0; i < inner; i++) row[i]! += scale * left[i]! * right[i]!
  }
}

/**
 * (w1a w1b) o (w2a w2b) as B A of rank^2: the elementwise product of sums is the sum over all pairs (r, q) of
 * w1a[:, r] w2a[:, q] times w1b[r, :] w2b[q, :] (the Khatri-Rao products of the factors).
 */
export function hadamardFactors(
  { w1a, w1b, w2a, w2b }: HadamardTensors,
  { in: inner, out, rank }: { in: number; out: number; rank: number },
): Factors {
  const pairs = rank * rank
  const a = new Float32Array(pairs * inner)
  const b = new Float32Array(out * pairs)
  for (let r = 0; r < rank; r++)
    for (let q = 0; q < rank; q++) {
      const pair = r * rank + q
      for (let i = 0; i < inner; i++)
        a[pair * inner + i] = w1b[r * inner + i]! * w2b[q * inner + i]!
      for (let o = 0; o < out; o++) b[o * pairs + pair] = w1a[o * rank + r]! * w2a[o * rank + q]!
    }
  return { rank: pairs, a, b }
}

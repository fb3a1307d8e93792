/**
 * The ways in which an author's tensors say what a `dense` operation adds to W [out, in]. `rotation` and `butterfly`
 * are W' = f(W), dW = f(W) - W: they mean nothing without the base's weights.
 */

/** dW itself, [out, in]. */
export interface MatrixForm {
  form: 'matrix'
  slots: { dW: string }
}

/**
 * LoHa (FedPara, arXiv 2108.06098): dW = scale * (w1a w1b) o (w2a w2b), o elementwise. w1a, w2a [out, rank], w1b, w2b
 * [rank, in].
 */
export interface HadamardForm {
  form: 'hadamard'
  rank: number
  scale: string
  slots: { w1a: string; w1b: string; w2a: string; w2b: string }
}

/**
 * LoKr (LyCORIS, arXiv 2309.14859): dW = scale * w1 (x) w2, (w1 (x) w2)[l K + k, m N + n] = w1[l, m] w2[k, n], w1 of shape1,
 * w2 of shape2 = [K, N]. A side is whole (`w1`), or of `rank1` the product of w1a [rows, rank1] and w1b [rank1, columns].
 */
export interface KroneckerForm {
  form: 'kronecker'
  scale: string
  shape1: number[]
  shape2: number[]
  rank1?: number
  rank2?: number
  slots: { w1?: string; w1a?: string; w1b?: string; w2?: string; w2a?: string; w2b?: string }
}

/**
 * OFT (arXiv 2306.07280): y = W x' + b, where each block of blockSize inputs is rotated, x' = x R with x a row. Q [blockSize,
 * blockSize] is skew symmetric, its upper triangle a row of slot Q [blocks, blockSize (blockSize - 1) / 2], row by row; with
 * `shared` there is one row for all blocks. R = (I - Q)(I + Q)^-1 (Cayley), or with `series` the sum of series[k] Q^k: PEFT's
 * truncated Neumann series, which tends to (I + Q)(I - Q)^-1, the transpose of Cayley's R.
 */
export interface RotationForm {
  form: 'rotation'
  blockSize: number
  shared: boolean
  series?: string[]
  /** Longest Frobenius norm of a block's Q: a longer one is shortened to it first. */
  maxNorm?: string
  slots: { Q: string }
}

/**
 * BOFT (arXiv 2311.06243): y = s * (W x') + b, x' = x M with x a row, M = M_last ... M_0, M_i = P_i D_i P_i^T. D_i is block
 * diagonal with (I - Q)(I + Q)^-1, Q = (R - R^T) / 2 of R [factors, in / blockSize, blockSize, blockSize]. (P_i v)[a] =
 * v[order[a]]: with more than one factor, each stretch of blockSize 2^i elements is pieces of blockSize / 2, and order takes
 * the even pieces before the odd ones. s [out].
 */
export interface ButterflyForm {
  form: 'butterfly'
  blockSize: number
  factors: number
  slots: { R: string; s: string }
}

/**
 * FourierFT (arXiv 2405.03003): dW = scale * Re(ifft2(D)), D [out, in] zero but for values[k] at row indices[0, k], column
 * indices[1, k]. values [frequencies]; indices [2, frequencies], integers. ifft2 divides by in * out.
 */
export interface SpectrumForm {
  form: 'spectrum'
  frequencies: number
  scale: string
  slots: { values: string; indices: string }
}

export type DenseForm =
  | MatrixForm
  | HadamardForm
  | KroneckerForm
  | RotationForm
  | ButterflyForm
  | SpectrumForm

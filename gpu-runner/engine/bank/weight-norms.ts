/**
 * Row norms of W + s B A, as DoRA divides by (arXiv 2402.09353, section 4.1). W [out, in], A [rank, in],
 * b [rank, out] with the scale already in it. Sums in f64.
 */
export function weightNorms(
  w: Float32Array,
  a: Float32Array,
  b: Float32Array,
  out: number,
  inner: number,
  rank: number,
): Float64Array {
  const norms = new Float64Array(out)
  const row = new Float64Array(inner)
  for (let o = 0; o < out; o++) {
    for (let i = 0; i < inner; i++) row[i] = w[o * inner + i]!
    for (let r = 0; r < rank; r++) {
      const factor = b[r * out + o]!
      if (factor === 0) continue
      const at = r * inner
      for (let i = 0; i < inner; i++) row[i]! += factor * a[at + i]!
    }
    let sum = 0
    for (let i = 0; i < inner; i++) sum += row[i]! * row[i]!
    norms[o] = Math.sqrt(sum)
  }
  return norms
}

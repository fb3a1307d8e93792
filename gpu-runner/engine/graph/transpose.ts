/** W [out, in] to [in, out], as MatMul's second operand. */
export function transpose(w: Float32Array, out: number, inner: number): Float32Array {
  const t = new Float32Array(w.length)
  for (let o = 0; o < out; o++) for (let i = 0; i < inner; i++) t[i * out + o] = w[o * inner + i]!
  return t
}

import { GraftError } from '@graft/sdk/format/errors.ts'
import type { Activation } from '@graft/sdk/format/operations.ts'

/** W x with W [out, in] and x [in], sums in f64. @returns [out] */
export function product(w: ArrayLike<number>, x: Float64Array): Float64Array {
  const out = w.length / x.length
  const y = new Float64Array(out)
  for (let o = 0; o < out; o++) {
    let sum = 0
    for (let i = 0; i < x.length; i++) sum += w[o * x.length + i]! * x[i]!
    y[o] = sum
  }
  return y
}

/** x / rms(x) * weight (arXiv 1910.07467). */
export function rmsNorm(x: Float64Array, weight: Float32Array, epsilon: number): Float64Array {
  let squares = 0
  for (const value of x) squares += value * value
  const factor = 1 / Math.sqrt(squares / x.length + epsilon)
  return x.map((value, i) => value * factor * weight[i]!)
}

/** (x - mean) / sqrt(variance + 1e-5) * weight + bias, torch's nn.LayerNorm with its default epsilon. */
export function layerNorm(
  x: Float64Array,
  weight: Float32Array,
  bias: Float32Array | null,
): Float64Array {
  const mean = x.reduce((sum, value) => sum + value, 0) / x.length
  const variance = x.reduce((sum, value) => sum + (value - mean) ** 2, 0) / x.length
  const factor = 1 / Math.sqrt(variance + 1e-5)
  return x.map((value, i) => (value - mean) * factor * weight[i]! + (bias?.[i] ?? 0))
}

/**
 * RoPE (arXiv 2104.09864) in the half-split layout of Llama: x [heads * headDim] at `position`, in place.
 * Frequencies and angles are rounded to f32, as the tools that trained the weights do.
 */
export function rotate(x: Float64Array, headDim: number, position: number, theta: number): void {
  const half = headDim / 2
  for (let head = 0; head < x.length; head += headDim)
    for (let i = 0; i < half; i++) {
      const angle = Math.fround(position * Math.fround(1 / theta ** ((2 * i) / headDim)))
      const [a, b] = [x[head + i]!, x[head + half + i]!]
      x[head + i] = a * Math.cos(angle) - b * Math.sin(angle)
      x[head + half + i] = b * Math.cos(angle) + a * Math.sin(angle)
    }
}

export const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x))
export const silu = (x: number): number => x * sigmoid(x)

/** erf by its Taylor series, or 1 minus the continued fraction of erfc where the series would cancel. */
export function erf(x: number): number {
  const a = Math.abs(x)
  if (a > 6) return Math.sign(x)
  if (a < 2.5) {
    let term = x
    let sum = x
    for (let n = 1; n < 80; n++) {
      term *= -(x * x) / n
      sum += term / (2 * n + 1)
    }
    return (2 / Math.sqrt(Math.PI)) * sum
  }
  let fraction = 0
  for (let n = 80; n > 0; n--) fraction = n / 2 / (a + fraction)
  return Math.sign(x) * (1 - Math.exp(-a * a) / (Math.sqrt(Math.PI) * (a + fraction)))
}

const FUNCTIONS: Record<Activation, (x: number) => number> = {
  relu: (x) => Math.max(0, x),
  gelu: (x) => (x / 2) * (1 + erf(x / Math.SQRT2)),
  gelu_new: (x) => (x / 2) * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
  silu,
  tanh: Math.tanh,
  sigmoid,
  leaky_relu: (x) => (x < 0 ? 0.01 * x : x),
  linear: (x) => x,
}

export function activation(name: Activation): (x: number) => number {
  const found = FUNCTIONS[name]
  if (found) return found
  throw new GraftError('ERR_OPERATION_UNSUPPORTED', `the activation ${name} is not known`)
}

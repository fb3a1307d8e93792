import type { LinearWeight } from './linear-weights.ts'
import { ONNX_TYPE, type OnnxModel } from './onnx-model.ts'

/**
 * x, whose rows are NaN throughout where they hold a value that is not finite. Kernels that quantise x take maxima, which
 * pass over a NaN, and round it to some integer: a row that overflowed would go on with numbers that look like an answer.
 */
export const guarded = (m: OnnxModel, of: LinearWeight, x: string): string =>
  of.guarded ? m.node('Sub', [x, m.node('MatMul', [x, zeroColumn(m, of.in)])]) : x

/** Times x [tokens, in] it is 0 for finite rows and NaN for the others. */
export const zeroColumn = (m: OnnxModel, inner: number): string =>
  m.constant(`zeros_${inner}`, ONNX_TYPE.FLOAT, [inner, 1], new Float32Array(inner))

import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import { ONNX_TYPE, type OnnxModel } from './onnx-model.ts'

export type Precision = 'fp32' | 'int8' | 'int4'

/** Weights per block that share one scale (MatMulNBits' smallest-error size that its kernels are fast at). */
export const BLOCK = 32

/** W [out, in] to [in, out], as MatMul's second operand. */
export function transpose(w: Float32Array, out: number, inner: number): Float32Array {
  const t = new Float32Array(w.length)
  for (let o = 0; o < out; o++) for (let i = 0; i < inner; i++) t[i * out + o] = w[o * inner + i]!
  return t
}

interface Quantized {
  q: Uint8Array
  scales: Float32Array
}

/** A checkpoint that hands out the same array again is quantised once for all variants of the graph. */
const quantized = {
  4: new WeakMap<Float32Array, Quantized>(),
  8: new WeakMap<Float32Array, Quantized>(),
}

function quantizeOnce(w: Float32Array, bits: 4 | 8): Quantized {
  const known = quantized[bits].get(w) ?? quantizeBlocks(w, bits)
  quantized[bits].set(w, known)
  return known
}

/**
 * Symmetric blockwise quantisation of W [out, in] for MatMulNBits: q [out, in / 32, bytes], zero point in the middle,
 * one f32 scale per block.
 */
export function quantizeBlocks(w: Float32Array, bits: 4 | 8): Quantized {
  const top = bits === 4 ? 7 : 127
  const zero = bits === 4 ? 8 : 128
  const q = new Uint8Array((w.length * bits) / 8)
  const scales = new Float32Array(w.length / BLOCK)
  // A hot loop over every weight of a base: plain locals and no calls.
  for (let block = 0; block < scales.length; block++) {
    const begin = block * BLOCK
    const end = begin + BLOCK
    let most = 0
    for (let i = begin; i < end; i++) {
      const size = w[i]! < 0 ? -w[i]! : w[i]!
      if (size > most) most = size
    }
    const scale = Math.fround(most / top)
    scales[block] = scale
    // All weights of the block are 0, or too small for an f32 scale: any scale will do.
    const divisor = scale === 0 ? Infinity : scale
    // Truncating a positive number that has 0.5 added rounds as Math.round does, several times as fast.
    const middle = zero + 0.5
    if (bits === 8) for (let i = begin; i < end; i++) q[i] = (w[i]! / divisor + middle) | 0
    // Two values a byte, the earlier one in the low half.
    else
      for (let i = begin; i < end; i += 2)
        q[i >> 1] = (w[i]! / divisor + middle) | ((w[i + 1]! / divisor + middle) << 4)
  }
  return { q, scales }
}

/** y = x W^T with W [out, in] held at the precision. @returns the name of y */
export function linear(
  model: OnnxModel,
  precision: Precision,
  name: string,
  x: string,
  w: Float32Array,
  out: number,
  inner: number,
): string {
  if (precision === 'fp32') {
    const weight = model.weight(
      `${name}.weight`,
      ONNX_TYPE.FLOAT,
      [inner, out],
      transpose(w, out, inner),
    )
    return model.node('MatMul', [x, weight])
  }
  if (inner % BLOCK !== 0)
    throw new GraftError(
      'ERR_ARCHITECTURE_UNSUPPORTED',
      expected(`${name}: input size at ${precision}`, `a multiple of ${BLOCK}`, inner),
    )
  const bits = precision === 'int4' ? 4 : 8
  const { q, scales } = quantizeOnce(w, bits)
  const blocks = inner / BLOCK
  const qName = model.weight(`${name}.q`, ONNX_TYPE.UINT8, [out, blocks, (BLOCK * bits) / 8], q)
  const sName = model.weight(`${name}.scales`, ONNX_TYPE.FLOAT, [out * blocks], scales)
  // accuracy_level 4: activations are quantised per row and block, so a neighbour never changes a row.
  return model.node('MatMulNBits', [x, qName, sName], {
    K: inner,
    N: out,
    bits,
    block_size: BLOCK,
    accuracy_level: 4,
  })
}

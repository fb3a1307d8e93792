import { toFloat32 } from '@graft/sdk/format/dtypes.ts'

/** ggml's q8_0: 32 elements are an f16 scale d, then 32 signed bytes q; an element is d * q. */
const ELEMENTS = 32
const BYTES = 34

/** Exact: an f16 times a byte has at most 19 significant bits. */
export function dequantiseQ8(blocks: Uint8Array): Float32Array<ArrayBuffer> {
  const count = blocks.length / BYTES
  const out = new Float32Array(count * ELEMENTS)
  const scales = new Uint8Array(count * 2)
  for (let b = 0; b < count; b++) scales.set(blocks.subarray(b * BYTES, b * BYTES + 2), b * 2)
  const d = toFloat32('F16', scales)
  const q = new Int8Array(blocks.buffer, blocks.byteOffset, blocks.length)
  for (let b = 0; b < count; b++)
    for (let i = 0; i < ELEMENTS; i++) out[b * ELEMENTS + i] = d[b]! * q[b * BYTES + 2 + i]!
  return out
}

/** Bits of the f16 nearest to a number >= 0, ties to even. */
function halfBits(value: number): number {
  if (!(value < 65_520)) return 0x7c00
  // Below 2^-14 halves are multiples of 2^-24, above they have 11 significant bits.
  const exponent = Math.max(-14, Math.floor(Math.log2(value || 2 ** -24)))
  const steps = value * 2 ** (10 - exponent)
  const floor = Math.floor(steps)
  const rest = steps - floor
  const rounded = floor + (rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? 1 : 0)
  // A carry into the next exponent comes out right by itself.
  return rounded + (exponent + 14) * 1024
}

/**
 * As llama.cpp's reference quantiser writes it: d = max / 127, q = x / d rounded half away from zero. What dequantiseQ8
 * made of blocks that were quantised so gives the same bytes again.
 */
export function quantiseQ8(values: Float32Array): Uint8Array<ArrayBuffer> {
  const count = values.length / ELEMENTS
  const out = new Uint8Array(count * BYTES)
  const view = new DataView(out.buffer)
  for (let b = 0; b < count; b++) {
    let most = 0
    for (let i = 0; i < ELEMENTS; i++) most = Math.max(most, Math.abs(values[b * ELEMENTS + i]!))
    const d = Math.fround(most / 127)
    const inverse = d === 0 ? 0 : Math.fround(1 / d)
    view.setUint16(b * BYTES, halfBits(d), true)
    for (let i = 0; i < ELEMENTS; i++) {
      const x = Math.fround(values[b * ELEMENTS + i]! * inverse)
      view.setInt8(b * BYTES + 2 + i, Math.sign(x) * Math.floor(Math.abs(x) + 0.5))
    }
  }
  return out
}

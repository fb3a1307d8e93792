/**
 * How a row of keys or values, [headDim] of one head and position, is held. fp16 saturates at its largest finite value;
 * int8 is symmetric with one f32 scale per row, so that neither a neighbour nor another position changes a row.
 */
export const KV_PRECISIONS = ['fp32', 'fp16', 'int8'] as const
export type KvPrecision = (typeof KV_PRECISIONS)[number]

const VALUE_BYTES = { fp32: 4, fp16: 2, int8: 1 } as const

/** Bytes of each part of a row: its values, and its scale where it has one. */
export const rowParts = (precision: KvPrecision, headDim: number): number[] =>
  precision === 'int8' ? [headDim, 4] : [headDim * VALUE_BYTES[precision]]

/** Values of rows as the graph reads them; half floats stand as their bits. */
export type KvValues = Float32Array | Uint16Array | Int8Array

export interface KvView {
  values: KvValues
  /** Where the precision has any. */
  scales: Float32Array | null
}

const VALUES = { fp32: Float32Array, fp16: Uint16Array, int8: Int8Array } as const

export const kvValues = (
  precision: KvPrecision,
  memory: ArrayBuffer,
  byteOffset: number,
  length: number,
): KvValues => new VALUES[precision](memory, byteOffset, length)

export const emptyView = (precision: KvPrecision): KvView => ({
  values: new VALUES[precision](0),
  scales: precision === 'int8' ? new Float32Array(0) : null,
})

/** Largest finite half float. */
const MOST_FP16 = 65_504

/** Writes f32 values as half floats at element `at`. NaN stays NaN. */
export function encodeFp16(target: Float16Array, at: number, source: Float32Array): void {
  for (let i = 0; i < source.length; i++) {
    const value = source[i]!
    target[at + i] = value > MOST_FP16 ? MOST_FP16 : value < -MOST_FP16 ? -MOST_FP16 : value
  }
}

/**
 * Writes rows of f32 values [rows, headDim] from row `at` on: scale = largest |value| / 127, value / scale rounded.
 * A row with a value that is not finite gets the scale NaN, so that it stays recognisable.
 */
export function encodeInt8(
  target: Int8Array,
  scales: Float32Array,
  at: number,
  source: Float32Array,
  headDim: number,
): void {
  for (let begin = 0, row = at; begin < source.length; begin += headDim, row++) {
    const end = begin + headDim
    let most = 0
    let broken = 0
    for (let i = begin; i < end; i++) {
      const value = source[i]!
      const size = value < 0 ? -value : value
      if (size > most) most = size
      broken += value - value
    }
    const scale = Math.fround(most / 127)
    scales[row] = scale + broken
    const factor = scale === 0 ? 0 : 1 / scale
    const shift = row * headDim - begin
    // Adding and taking away 1.5 * 2^52 rounds to the nearest integer, ties to even, as the FPU does.
    for (let i = begin; i < end; i++)
      target[shift + i] = source[i]! * factor + 6755399441055744 - 6755399441055744
  }
}

import { expected, GraftError } from './errors.ts'

/**
 * Every dtype of safetensors in the order of its own enum, by which writers sort (largest alignment last).
 * `numeric`: what an adapter's weights may be, the types toFloat32 reads.
 */
export const DTYPES = {
  BOOL: { bits: 8, order: 0, numeric: false },
  F4: { bits: 4, order: 1, numeric: false },
  F6_E2M3: { bits: 6, order: 2, numeric: false },
  F6_E3M2: { bits: 6, order: 3, numeric: false },
  U8: { bits: 8, order: 4, numeric: false },
  I8: { bits: 8, order: 5, numeric: false },
  F8_E5M2: { bits: 8, order: 6, numeric: false },
  F8_E4M3: { bits: 8, order: 7, numeric: false },
  F8_E8M0: { bits: 8, order: 8, numeric: false },
  F8_E4M3FNUZ: { bits: 8, order: 9, numeric: false },
  F8_E5M2FNUZ: { bits: 8, order: 10, numeric: false },
  I16: { bits: 16, order: 11, numeric: false },
  U16: { bits: 16, order: 12, numeric: false },
  F16: { bits: 16, order: 13, numeric: true },
  BF16: { bits: 16, order: 14, numeric: true },
  I32: { bits: 32, order: 15, numeric: false },
  U32: { bits: 32, order: 16, numeric: false },
  F32: { bits: 32, order: 17, numeric: true },
  C64: { bits: 64, order: 18, numeric: false },
  F64: { bits: 64, order: 19, numeric: true },
  I64: { bits: 64, order: 20, numeric: false },
  U64: { bits: 64, order: 21, numeric: false },
} as const
export type Dtype = keyof typeof DTYPES

export const isDtype = (input: unknown): input is Dtype =>
  typeof input === 'string' && Object.hasOwn(DTYPES, input)

/** A copy where the bytes are not aligned for the view that reads them. */
const aligned = (bytes: Uint8Array, to: number): Uint8Array =>
  bytes.byteOffset % to === 0 ? bytes : bytes.slice()

let halves: Float32Array | undefined

/** All 65,536 half precision values: a lookup is far cheaper than rebuilding each one. */
function halfTable(): Float32Array {
  if (halves) return halves
  const table = new Float32Array(1 << 16)
  for (let i = 0; i < table.length; i++) {
    const sign = i & 0x8000 ? -1 : 1
    const exponent = (i >> 10) & 31
    const fraction = i & 1023
    table[i] =
      exponent === 0
        ? sign * 2 ** -24 * fraction
        : exponent === 31
          ? fraction === 0
            ? sign * Number.POSITIVE_INFINITY
            : Number.NaN
          : sign * 2 ** (exponent - 25) * (1024 + fraction)
  }
  return (halves = table)
}

/**
 * Little-endian bytes of a tensor as f32. F32 shares the caller's memory when it is aligned; F64 is rounded.
 * @throws ERR_SAFETENSORS_INVALID for a dtype that holds no weights (integers, booleans, sub-byte floats)
 */
export function toFloat32(dtype: string, bytes: Uint8Array): Float32Array {
  if (dtype === 'F32') {
    const { buffer, byteOffset, byteLength } = aligned(bytes, 4)
    return new Float32Array(buffer, byteOffset, byteLength / 4)
  }
  if (dtype === 'F64') {
    const { buffer, byteOffset, byteLength } = aligned(bytes, 8)
    return Float32Array.from(new Float64Array(buffer, byteOffset, byteLength / 8))
  }
  if (dtype === 'F16' || dtype === 'BF16') {
    const { buffer, byteOffset, byteLength } = aligned(bytes, 2)
    const words = new Uint16Array(buffer, byteOffset, byteLength / 2)
    const out = new Float32Array(words.length)
    if (dtype === 'F16') {
      const table = halfTable()
      for (let i = 0; i < words.length; i++) out[i] = table[words[i]!]!
    } else {
      const bits = new Uint32Array(out.buffer)
      for (let i = 0; i < words.length; i++) bits[i] = words[i]! << 16
    }
    return out
  }
  throw new GraftError(
    'ERR_SAFETENSORS_INVALID',
    expected('dtype of weights', 'F32, F16, BF16 or F64', dtype),
  )
}

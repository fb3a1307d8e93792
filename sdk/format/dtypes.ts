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

/** How an array of numbers is made over memory. */
interface NumbersOver<T> {
  new (memory: ArrayBufferLike, offset: number, length: number): T
  BYTES_PER_ELEMENT: number
}

/** Bytes as the numbers of `View`, which share the caller's memory where it is aligned. */
export function view<T>(View: NumbersOver<T>, bytes: Uint8Array): T {
  const { buffer, byteOffset, byteLength } = aligned(bytes, View.BYTES_PER_ELEMENT)
  return new View(buffer, byteOffset, byteLength / View.BYTES_PER_ELEMENT)
}

/**
 * Writes a tensor's little-endian bytes as f32; F64 is rounded.
 * @param target as long as the tensor
 * @throws ERR_SAFETENSORS_INVALID for a dtype that holds no weights (integers, booleans, sub-byte floats)
 */
export function writeFloat32(dtype: string, bytes: Uint8Array, target: Float32Array): void {
  if (dtype === 'F32') target.set(view(Float32Array, bytes))
  else if (dtype === 'F64') target.set(view(Float64Array, bytes))
  else if (dtype === 'F16') {
    const words = view(Uint16Array, bytes)
    const table = halfTable()
    for (let i = 0; i < words.length; i++) target[i] = table[words[i]!]!
  } else if (dtype === 'BF16') {
    const words = view(Uint16Array, bytes)
    const bits = new Uint32Array(target.buffer, target.byteOffset, target.length)
    for (let i = 0; i < words.length; i++) bits[i] = words[i]! << 16
  } else
    throw new GraftError(
      'ERR_SAFETENSORS_INVALID',
      expected('dtype of weights', 'F32, F16, BF16 or F64', dtype),
    )
}

/** What weights may be. */
export const isWeightDtype = (dtype: string): dtype is Dtype =>
  isDtype(dtype) && DTYPES[dtype].numeric

/**
 * Little-endian bytes of a tensor as f32. F32 shares the caller's memory when it is aligned.
 * @throws as writeFloat32
 */
export function toFloat32(dtype: string, bytes: Uint8Array): Float32Array {
  if (dtype === 'F32') return view(Float32Array, bytes)
  const count = isWeightDtype(dtype) ? (8 * bytes.length) / DTYPES[dtype].bits : 0
  const out = new Float32Array(count)
  writeFloat32(dtype, bytes, out)
  return out
}

/** Exponent bits of the 16-bit floats: all set, a value is an infinity or NaN. */
const EXPONENT = { F16: 0x7c00, BF16: 0x7f80 } as const

/** Index of the first element that is not finite as f32, or -1. @throws as writeFloat32 */
export function findNonFinite(dtype: string, bytes: Uint8Array): number {
  if (dtype === 'F16' || dtype === 'BF16') {
    const mask = EXPONENT[dtype]
    const words = view(Uint16Array, bytes)
    for (let i = 0; i < words.length; i++) if ((words[i]! & mask) === mask) return i
    return -1
  }
  const values = toFloat32(dtype, bytes)
  // v - v is 0 for every finite v and NaN for the others, and NaN survives the sum.
  let sum = 0
  for (let i = 0; i < values.length; i++) sum += values[i]! - values[i]!
  return sum === 0 ? -1 : values.findIndex((value) => !Number.isFinite(value))
}

import { toFloat32, view, writeFloat32 } from './dtypes.ts'

/** The dtypes of tensors that hold places instead of weights. */
export const INDEX_DTYPES = ['I64', 'I32'] as const

export const isIndexDtype = (dtype: string): dtype is (typeof INDEX_DTYPES)[number] =>
  INDEX_DTYPES.includes(dtype as (typeof INDEX_DTYPES)[number])

/**
 * A tensor of weights or indices as f32, which holds every place that a format's limits let indices name.
 * @throws ERR_SAFETENSORS_INVALID for any other dtype
 */
export function writeNumbers(dtype: string, bytes: Uint8Array, target: Float32Array): void {
  if (!isIndexDtype(dtype)) {
    writeFloat32(dtype, bytes, target)
    return
  }
  const words = dtype === 'I64' ? view(BigInt64Array, bytes) : view(Int32Array, bytes)
  for (let i = 0; i < words.length; i++) target[i] = Number(words[i])
}

/** The same in an array of its own, or over the caller's memory where that is F32 already. @throws as writeNumbers */
export function toNumbers(dtype: string, bytes: Uint8Array): Float32Array {
  if (!isIndexDtype(dtype)) return toFloat32(dtype, bytes)
  const target = new Float32Array(bytes.length / (dtype === 'I64' ? 8 : 4))
  writeNumbers(dtype, bytes, target)
  return target
}

import { type ByteSource, heldBytes, readAll, sliceOf } from './byte-source.ts'
import type { Tensor } from './safetensors.ts'

/** A tensor whose shape is known and whose values are read when they are needed. */
export interface TensorSource {
  dtype: string
  /** C order; [] is a scalar. */
  shape: number[]
  /** Little-endian, C order. */
  data: ByteSource
}

export const heldTensor = ({ dtype, shape, data }: Tensor): TensorSource => ({
  dtype,
  shape,
  data: heldBytes(data),
})

export const heldTensors = (tensors: ReadonlyMap<string, Tensor>): Map<string, TensorSource> =>
  new Map([...tensors].map(([name, tensor]) => [name, heldTensor(tensor)]))

/** The whole tensor in memory. */
export async function readTensor({ dtype, shape, data }: TensorSource): Promise<Tensor> {
  return { dtype, shape, data: await readAll(data) }
}

/**
 * A tensor that is made of others. It is computed when its bytes are read, and held only until all of them have been:
 * a file of many such tensors never needs the memory of more than one.
 * @param bytes size of the result
 */
export function derivedTensor(
  dtype: string,
  shape: number[],
  bytes: number,
  compute: () => Promise<Uint8Array> | Uint8Array,
): TensorSource {
  let made: Promise<Uint8Array> | null = null
  const data: ByteSource = {
    size: bytes,
    async read(begin, end) {
      made ??= Promise.resolve(compute())
      const whole = await made
      if (end >= bytes) made = null
      return whole.subarray(begin, end)
    },
  }
  return { dtype, shape, data }
}

/** The same bytes seen in another shape of as many elements. */
export const reshaped = (tensor: TensorSource, shape: number[]): TensorSource => ({
  ...tensor,
  shape,
})

/** Rows [begin, end) of a tensor's first axis: they lie together. */
export function rowsOf(tensor: TensorSource, begin: number, end: number): TensorSource {
  const [rows = 0, ...rest] = tensor.shape
  const bytes = rows === 0 ? 0 : tensor.data.size / rows
  return {
    dtype: tensor.dtype,
    shape: [end - begin, ...rest],
    data: sliceOf(tensor.data, begin * bytes, end * bytes),
  }
}

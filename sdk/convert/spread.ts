import { DTYPES, isDtype } from '@graft/sdk/format/dtypes.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import { derivedTensor, readTensor, type TensorSource } from '@graft/sdk/format/tensor-source.ts'

/** Little-endian bytes of 1. */
const ONE: Readonly<Record<string, readonly number[]>> = {
  F16: [0x00, 0x3c],
  BF16: [0x80, 0x3f],
  F32: [0x00, 0x00, 0x80, 0x3f],
  F64: [0, 0, 0, 0, 0, 0, 0xf0, 0x3f],
}

/** Parts of a layer that holds several side by side (a fused q, k, v): the source has some of them. */
export interface Spread {
  /** How many parts the layer has. */
  of: number
  /** Which of them the source holds, in its order. */
  places: readonly number[]
}

export const spreadTransform = ({ of, places }: Spread): string =>
  `spread ${of},${places.join(',')}`

/** @returns null when the text is no spread that makes sense */
export function parseSpread(transform: string): Spread | null {
  if (!/^spread \d+(?:,\d+)+$/.test(transform)) return null
  const [of = 0, ...places] = transform.slice('spread '.length).split(',').map(Number)
  const inside = places.every((place, i) => place < of && places.indexOf(place) === i)
  return inside ? { of, places } : null
}

function bytesOf(tensor: TensorSource): number {
  const bits = isDtype(tensor.dtype) ? DTYPES[tensor.dtype].bits : 0
  if (ONE[tensor.dtype]?.length === bits / 8) return bits / 8
  throw new GraftError(
    'ERR_TENSOR_SHAPE',
    expected('a tensor to spread', 'of a dtype of weights', tensor.dtype),
  )
}

/** B of parts, [parts * rows, rank], as one B of the layer, [of * rows, parts * rank]: a part has its own ranks, 0 elsewhere. */
export function spreadMatrix(tensor: TensorSource, { of, places }: Spread): TensorSource {
  const element = bytesOf(tensor)
  const [total = 0, rank = 0] = tensor.shape
  const rows = total / places.length
  const columns = rank * places.length
  const bytes = of * rows * columns * element
  const run = rank * element
  return derivedTensor(tensor.dtype, [of * rows, columns], bytes, async () => {
    const { data } = await readTensor(tensor)
    const out = new Uint8Array(bytes)
    for (const [i, place] of places.entries())
      for (let row = 0; row < rows; row++)
        out.set(
          data.subarray((i * rows + row) * run, (i * rows + row + 1) * run),
          (place * rows + row) * columns * element + i * run,
        )
    return out
  })
}

/** Factors of parts, [parts * rows, 1], as factors of the layer, [of * rows]: 1 elsewhere. */
export function spreadVector(tensor: TensorSource, { of, places }: Spread): TensorSource {
  const element = bytesOf(tensor)
  const rows = (tensor.shape[0] ?? 0) / places.length
  const part = rows * element
  return derivedTensor(tensor.dtype, [of * rows], of * part, async () => {
    const { data } = await readTensor(tensor)
    const one = ONE[tensor.dtype]!
    const out = new Uint8Array(of * part).map((_, i) => one[i % element]!)
    for (const [i, place] of places.entries())
      out.set(data.subarray(i * part, (i + 1) * part), place * part)
    return out
  })
}

/** Undoes both: a vector back to [parts * rows, 1], a matrix to its blocks. @returns null when the tensor is no such one */
export function gather(tensor: TensorSource, { of, places }: Spread): TensorSource | null {
  const element = bytesOf(tensor)
  const [total = 0, columns] = tensor.shape
  const rows = total / of
  const rank = columns === undefined ? 1 : columns / places.length
  if (!Number.isInteger(rows) || !Number.isInteger(rank)) return null
  const run = rank * element
  const step = (columns ?? 1) * element
  const bytes = places.length * rows * run
  return derivedTensor(tensor.dtype, [places.length * rows, rank], bytes, async () => {
    const { data } = await readTensor(tensor)
    const out = new Uint8Array(bytes)
    for (const [i, place] of places.entries())
      for (let row = 0; row < rows; row++) {
        const from = (place * rows + row) * step + (columns === undefined ? 0 : i * run)
        out.set(data.subarray(from, from + run), (i * rows + row) * run)
      }
    return out
  })
}

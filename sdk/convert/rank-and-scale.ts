import { DTYPES, isDtype, toFloat32 } from '@graft/sdk/format/dtypes.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import { derivedTensor, readTensor, type TensorSource } from '@graft/sdk/format/tensor-source.ts'

/** f32 values of a tensor of weights; F64 is kept whole until it is rounded. */
async function valuesOf(tensor: TensorSource): Promise<Float32Array | Float64Array> {
  const { dtype, data } = await readTensor(tensor)
  if (dtype !== 'F64') return toFloat32(dtype, data)
  const bytes = data.byteOffset % 8 === 0 ? data : data.slice()
  return new Float64Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 8)
}

/** Of several scales the one that most have: theirs need no folding. 0 only where all are, or it would silence the others. */
export function commonScale(scales: readonly string[]): string {
  const counts = new Map<string, number>()
  for (const scale of scales) counts.set(scale, (counts.get(scale) ?? 0) + 1)
  const [best] = [...counts].toSorted(
    ([a, n], [b, m]) => Number(Number(b) !== 0) - Number(Number(a) !== 0) || m - n,
  )
  return best?.[0] ?? '1'
}

/** What B is multiplied by when an update of `scale` stands in a file of another. */
export const foldedFactor = (scale: string, file: string): number =>
  scale === file ? 1 : Number(scale) / Number(file)

/** A tensor times a number, each element rounded once to f32. */
export interface Scaled {
  tensor: TensorSource
  /** Largest |rounded - exact| of an element. */
  error: number
}

/**
 * Exact for powers of two, short of the ends of f32's range: what rounding costs is measured, not assumed. Half precision
 * becomes F32, which holds each of its values.
 * @throws ERR_WEIGHTS_NON_FINITE when an element leaves f32's range
 */
export async function scaleTensor(source: TensorSource, factor: number): Promise<Scaled> {
  if (factor === 1 && source.dtype !== 'F64') return { tensor: source, error: 0 }
  const scaled = async () => {
    const values = await valuesOf(source)
    const out = new Float32Array(values.length)
    let error = 0
    for (let i = 0; i < values.length; i++) {
      const exact = values[i]! * factor
      out[i] = exact
      error = Math.max(error, Math.abs(out[i]! - exact))
    }
    if (!Number.isFinite(error))
      throw new GraftError(
        'ERR_WEIGHTS_NON_FINITE',
        `weights times ${factor} do not fit into f32; rescale the adapter first`,
      )
    return { out, error }
  }
  const { error } = await scaled()
  const bytes = source.shape.reduce((n, dim) => n * dim, 4)
  const tensor = derivedTensor('F32', source.shape, bytes, async () => {
    return new Uint8Array((await scaled()).out.buffer)
  })
  return { tensor, error }
}

/** Every row of a matrix [rows, columns] lengthened to `to` columns with zeros. */
function widened(tensor: TensorSource, rows: number, columns: number, to: number, shape: number[]) {
  const element = isDtype(tensor.dtype) ? DTYPES[tensor.dtype].bits / 8 : 0
  return derivedTensor(tensor.dtype, shape, rows * to * element, async () => {
    const { data } = await readTensor(tensor)
    const out = new Uint8Array(rows * to * element)
    for (let row = 0; row < rows; row++)
      out.set(
        data.subarray(row * columns * element, (row + 1) * columns * element),
        row * to * element,
      )
    return out
  })
}

/** A rank lengthened with zeros: on the last axis, or on the one before it. Zero ranks add nothing. */
export function padRank(tensor: TensorSource, rank: number, axis: 'last' | 'rows'): TensorSource {
  const { shape } = tensor
  const at = shape.length - (axis === 'last' ? 1 : 2)
  if (shape[at] === rank) return tensor
  const padded = shape.map((dim, i) => (i === at ? rank : dim))
  const outer = shape.slice(0, at).reduce((n, dim) => n * dim, 1)
  const inner = shape.slice(at + 1).reduce((n, dim) => n * dim, 1)
  return widened(tensor, outer, shape[at]! * inner, rank * inner, padded)
}

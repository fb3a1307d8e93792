import { toFloat32 } from '@graft/sdk/format/dtypes.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import { derivedTensor, readTensor, type TensorSource } from '@graft/sdk/format/tensor-source.ts'

/** Values of a tensor of weights; F64 is kept whole until it is rounded. */
export async function exactValues(tensor: TensorSource): Promise<Float32Array | Float64Array> {
  const { dtype, data } = await readTensor(tensor)
  if (dtype !== 'F64') return toFloat32(dtype, data)
  const bytes = data.byteOffset % 8 === 0 ? data : data.slice()
  return new Float64Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 8)
}

export interface Rounded {
  tensor: TensorSource
  /** Largest |rounded - exact| of an element. */
  error: number
}

/**
 * A tensor of numbers computed in f64, each rounded once to f32. They are computed twice, for the error and when they are
 * read, and never held between.
 * @param exact element i; called anew for each of the two
 * @param what was done to the weights, for the refusal
 * @throws ERR_WEIGHTS_NON_FINITE when an element leaves f32's range
 */
export async function roundToF32(
  shape: readonly number[],
  what: string,
  exact: () => Promise<(i: number) => number>,
): Promise<Rounded> {
  const count = shape.reduce((n, dim) => n * dim, 1)
  const round = async () => {
    const at = await exact()
    const out = new Float32Array(count)
    let error = 0
    for (let i = 0; i < count; i++) {
      const value = at(i)
      out[i] = value
      error = Math.max(error, Math.abs(out[i]! - value))
    }
    if (!Number.isFinite(error))
      throw new GraftError(
        'ERR_WEIGHTS_NON_FINITE',
        `weights ${what} do not fit into f32; rescale the adapter first`,
      )
    return { out, error }
  }
  const { error } = await round()
  const tensor = derivedTensor('F32', [...shape], 4 * count, async () => {
    return new Uint8Array((await round()).out.buffer)
  })
  return { tensor, error }
}

/**
 * A tensor times a number: exact for powers of two, short of the ends of f32's range. Half precision becomes F32, which
 * holds each of its values.
 * @throws ERR_WEIGHTS_NON_FINITE
 */
export const scaled = (source: TensorSource, factor: number): Promise<Rounded> =>
  roundToF32(source.shape, `times ${factor}`, async () => {
    const values = await exactValues(source)
    return (i) => values[i]! * factor
  })

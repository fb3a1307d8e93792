import { toFloat32 } from '@graft/sdk/format/dtypes.ts'
import { derivedTensor, readTensor, type TensorSource } from '@graft/sdk/format/tensor-source.ts'
import type { Loss } from './exporter.ts'

/** Every element times a number, rounded once to f32, and the largest error of that. */
async function multiplied(tensor: TensorSource, factor: number) {
  const { dtype, data } = await readTensor(tensor)
  const values = dtype === 'F64' ? new Float64Array(data.slice().buffer) : toFloat32(dtype, data)
  const out = new Float32Array(values.length)
  let error = 0
  for (let i = 0; i < values.length; i++) {
    const exact = values[i]! * factor
    out[i] = exact
    error = Math.max(error, Math.abs(out[i]! - exact))
  }
  return { out, error }
}

/**
 * B of an update whose scale the target cannot hold: B' = factor * B. Kept as it is where the factor is 1 and the dtype one
 * that the target has; else F32, which a factor of a power of two reaches without error. What rounding costs is in the losses.
 */
export async function foldScale(
  site: string,
  tensor: TensorSource,
  factor: number,
  dtypes: readonly string[],
): Promise<{ tensor: TensorSource; losses: Loss[] }> {
  if (factor === 1 && dtypes.includes(tensor.dtype)) return { tensor, losses: [] }
  const { error } = await multiplied(tensor, factor)
  const bytes = tensor.shape.reduce((n, dim) => n * dim, 4)
  const folded = derivedTensor('F32', tensor.shape, bytes, async () => {
    const { out } = await multiplied(tensor, factor)
    return new Uint8Array(out.buffer)
  })
  const what =
    factor === 1
      ? `${tensor.dtype} rounded to F32`
      : `the scale's factor ${factor} folded into B, rounded to f32`
  return {
    tensor: folded,
    losses:
      error > 0
        ? [{ site, field: factor === 1 ? 'dtype' : 'scale', what, maxAbsError: error }]
        : [],
  }
}

import type { TensorSource } from '@graft/sdk/format/tensor-source.ts'
import type { Loss } from './exporter.ts'
import { scaled } from './round-to-f32.ts'

/**
 * B of an update whose scale the target cannot hold: B' = factor * B. Kept as it is where the factor is 1 and the dtype one
 * that the target has; else F32, which a factor of a power of two reaches without error. What rounding costs is in the losses.
 * @throws ERR_WEIGHTS_NON_FINITE when an element leaves f32's range
 */
export async function foldScale(
  site: string,
  tensor: TensorSource,
  factor: number,
  dtypes: readonly string[],
): Promise<{ tensor: TensorSource; losses: Loss[] }> {
  if (factor === 1 && dtypes.includes(tensor.dtype)) return { tensor, losses: [] }
  const { tensor: folded, error } = await scaled(tensor, factor)
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

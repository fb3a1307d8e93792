import type { LowRank } from '@graft/sdk/format/operations.ts'
import type { TensorSource } from '@graft/sdk/format/tensor-source.ts'
import type { Loss } from './exporter.ts'
import { exactValues, roundToF32 } from './round-to-f32.ts'

/**
 * A and B of an update whose factors E and D (AdaLoRA's, VeRA's) the target cannot hold: A' = E * A and B' = D * B, by
 * rows. Each element is rounded once to f32; what that costs is in the losses.
 * @throws ERR_WEIGHTS_NON_FINITE when an element leaves f32's range
 */
export async function foldFactors(
  op: LowRank,
  tensors: ReadonlyMap<string, TensorSource>,
): Promise<{ A: TensorSource; B: TensorSource; losses: Loss[] }> {
  const losses: Loss[] = []
  const fold = async (slot: 'A' | 'B', factor: 'E' | 'D'): Promise<TensorSource> => {
    const matrix = tensors.get(op.slots[slot])!
    const name = op.slots[factor]
    if (name === undefined) return matrix
    const { tensor, error } = await roundToF32(matrix.shape, `times ${factor}`, async () => {
      const [m, v] = [await exactValues(matrix), await exactValues(tensors.get(name)!)]
      const width = m.length / v.length
      return (i) => m[i]! * v[Math.floor(i / width)]!
    })
    if (error > 0)
      losses.push({
        site: op.site,
        field: slot,
        what: `${factor} folded into ${slot}, rounded to f32`,
        maxAbsError: error,
      })
    return tensor
  }
  return { A: await fold('A', 'E'), B: await fold('B', 'D'), losses }
}

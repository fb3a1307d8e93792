import { toFloat32 } from '@graft/sdk/format/dtypes.ts'
import type { LowRank } from '@graft/sdk/format/operations.ts'
import { derivedTensor, readTensor, type TensorSource } from '@graft/sdk/format/tensor-source.ts'
import type { Loss } from './exporter.ts'

type Tensors = ReadonlyMap<string, TensorSource>

const values = async (tensors: Tensors, name: string): Promise<Float32Array> => {
  const { dtype, data } = await readTensor(tensors.get(name)!)
  return toFloat32(dtype, data)
}

/** Row r of M times v[r], rounded to f32, which holds every weight dtype but F64. M [rows, ...]. */
async function scaledRows(tensors: Tensors, matrix: string, vector: string) {
  const [m, v] = [await values(tensors, matrix), await values(tensors, vector)]
  const width = m.length / v.length
  let error = 0
  const out = new Float32Array(m.length)
  for (let i = 0; i < m.length; i++) {
    const exact = m[i]! * v[Math.floor(i / width)]!
    out[i] = exact
    error = Math.max(error, Math.abs(out[i]! - exact))
  }
  return { out, error }
}

/**
 * A and B of an update whose factors E and D (AdaLoRA's, VeRA's) the target cannot hold: A' = E * A and B' = D * B, by
 * rows. Each element is rounded once to f32; what that costs is in the losses.
 */
export async function foldFactors(
  op: LowRank,
  tensors: Tensors,
): Promise<{ A: TensorSource; B: TensorSource; losses: Loss[] }> {
  const losses: Loss[] = []
  const fold = async (slot: 'A' | 'B', factor: 'E' | 'D'): Promise<TensorSource> => {
    const tensor = tensors.get(op.slots[slot])!
    const vector = op.slots[factor]
    if (vector === undefined) return tensor
    const { out, error } = await scaledRows(tensors, op.slots[slot], vector)
    if (error > 0)
      losses.push({
        site: op.site,
        field: slot,
        what: `${factor} folded into ${slot}, rounded to f32`,
        maxAbsError: error,
      })
    return derivedTensor('F32', tensor.shape, out.byteLength, async () => {
      const { out: again } = await scaledRows(tensors, op.slots[slot], vector)
      return new Uint8Array(again.buffer)
    })
  }
  return { A: await fold('A', 'E'), B: await fold('B', 'D'), losses }
}

import { foldFactors } from '@graft/convert/fold-factors.ts'
import { foldScale } from '@graft/convert/fold-scale.ts'
import { scaleTensor } from '@graft/convert/rank-and-scale.ts'
import type { LowRank } from '@graft/sdk/format/operations.ts'
import { heldTensor, readTensor } from '@graft/sdk/format/tensor-source.ts'
import { describe, expect, it } from 'vitest'

const f32 = (values: number[]) =>
  heldTensor({
    ...{ dtype: 'F32', shape: [1, values.length] },
    data: new Uint8Array(Float32Array.from(values).buffer),
  })
const f64 = (values: number[]) =>
  heldTensor({
    ...{ dtype: 'F64', shape: [1, values.length] },
    data: new Uint8Array(Float64Array.from(values).buffer),
  })
const op = (slots: LowRank['slots']): LowRank => ({
  ...{ op: 'low_rank', site: 'model.layers.0.mlp.up_proj', in: 2, out: 1, rank: 1, scale: '1' },
  slots,
})

describe('what a target cannot hold, folded into weights', () => {
  it('is refused wherever an element leaves the range of f32, never written as an infinity', async () => {
    const large = f32([1, 1e30])
    const tensors = new Map([
      ['A', large],
      ['B', f32([1])],
      ['E', f32([1e30])],
    ])
    for (const folded of [
      foldScale('model.layers.0', large, 1e30, ['F32']),
      scaleTensor(large, 1e30),
      foldFactors(op({ A: 'A', B: 'B', E: 'E' }), tensors),
    ])
      await expect(folded).rejects.toMatchObject({ code: 'ERR_WEIGHTS_NON_FINITE' })
  })

  it('is rounded once, from all digits of f64', async () => {
    // A third in f32 times 7 would be one step higher.
    const tensors = new Map([
      ['A', f64([1 / 3, 2])],
      ['B', f32([1])],
      ['E', f64([7])],
    ])
    const { A } = await foldFactors(op({ A: 'A', B: 'B', E: 'E' }), tensors)
    const { data } = await readTensor(A)
    expect(new Float32Array(data.slice().buffer)[0]).toBe(Math.fround((1 / 3) * 7))
    expect(Math.fround((1 / 3) * 7)).not.toBe(Math.fround(Math.fround(1 / 3) * 7))
  })
})

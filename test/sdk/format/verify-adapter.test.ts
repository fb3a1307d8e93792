import { lowRankNorm } from '@graft/sdk/format/delta-norm.ts'
import { sha256 } from '@graft/sdk/format/digest.ts'
import type { Operation } from '@graft/sdk/format/operations.ts'
import { manifestBytes, parseManifest } from '@graft/sdk/format/parse-manifest.ts'
import { type Tensor, writeSafetensors } from '@graft/sdk/format/safetensors.ts'
import { verifyAdapter } from '@graft/sdk/format/verify-adapter.ts'
import { describe, expect, it } from 'vitest'
import { f32, OPERATIONS, sampleAdapter, TENSORS } from './sample.ts'

const [LOW_RANK, , SCALE, BOTTLENECK] = OPERATIONS as [Operation, Operation, Operation, Operation]

/** Verifies a manifest made for these operations and tensors, against the base of the sample. */
async function verify(operations?: Operation[], tensors?: Map<string, Tensor>) {
  const { manifest, safetensors, base } = await sampleAdapter(operations, tensors)
  return verifyAdapter(parseManifest(manifestBytes(manifest)), safetensors, base.tensors)
}
const withTensors = (changes: Record<string, Tensor>) =>
  new Map([...TENSORS(), ...Object.entries(changes)])
const zeros = (shape: number[]) => f32(shape, () => 0)

describe('verifyAdapter', () => {
  it('accepts an adapter with an operation of every kind', () =>
    expect(verify()).resolves.toBeUndefined())

  it('refuses one changed byte of the file', async () => {
    const { manifest, safetensors } = await sampleAdapter()
    safetensors[safetensors.length - 1]! ^= 1
    await expect(verifyAdapter(manifest, safetensors)).rejects.toMatchObject({
      code: 'ERR_DIGEST_MISMATCH',
    })
  })

  it('refuses another header around the same tensors', async () => {
    const { manifest } = await sampleAdapter()
    const [first, second] = ['1', '2'].map((v) => writeSafetensors(TENSORS(), { v }))
    const digest = await sha256(first!)
    const files = [{ ...manifest.files[0]!, size: first!.length, sha256: digest }]
    await verifyAdapter({ ...manifest, files }, first!)
    await expect(verifyAdapter({ ...manifest, files }, second!)).rejects.toMatchObject({
      code: 'ERR_DIGEST_MISMATCH',
    })
  })

  it('refuses a file that the table does not describe, even when its own digest fits', async () => {
    const cases: [(t: Map<string, Tensor>) => void, string][] = [
      [(t) => t.delete('E'), 'ERR_TENSOR_MISSING'],
      [(t) => t.set('more', zeros([1])), 'ERR_TENSOR_UNMATCHED'],
      [(t) => t.set('E', { ...t.get('E')!, shape: [8, 2] }), 'ERR_TENSOR_SHAPE'],
      [(t) => t.set('E', zeros([2, 8])), 'ERR_DIGEST_MISMATCH'],
    ]
    for (const [change, code] of cases) {
      const { manifest } = await sampleAdapter()
      const tensors = TENSORS()
      change(tensors)
      const bytes = writeSafetensors(tensors)
      const row = { ...manifest.files[0]!, size: bytes.length, sha256: await sha256(bytes) }
      await expect(verifyAdapter({ ...manifest, files: [row] }, bytes)).rejects.toMatchObject({
        code,
      })
    }
  })

  it.each<[string, Partial<Record<string, unknown>>, number, string]>([
    [
      'a site the base does not have',
      { site: 'model.layers.9.self_attn.q_proj' },
      0,
      'ERR_TENSOR_UNMATCHED',
    ],
    ['sizes of another base', { site: 'model.layers.0.self_attn.k_proj' }, 0, 'ERR_TENSOR_SHAPE'],
    ['a norm as a linear layer', { site: 'model.norm' }, 0, 'ERR_TENSOR_SHAPE'],
    ['the wrong side', { side: 'output' }, 2, 'ERR_TENSOR_SHAPE'],
    ['a block the base does not have', { site: 'model.layers.1' }, 3, 'ERR_TENSOR_UNMATCHED'],
    [
      'an attention the base does not have',
      { site: 'model.layers.1.self_attn' },
      4,
      'ERR_TENSOR_UNMATCHED',
    ],
    ['rows beyond the vocabulary', { rows: [3, 16] }, 7, 'ERR_TENSOR_SHAPE'],
    ['a bias the base does not have', { param: 'bias' }, 6, 'ERR_TENSOR_UNMATCHED'],
  ])('refuses %s', async (_, change, index, code) => {
    const operation = { ...OPERATIONS[index], ...change } as Operation
    await expect(verify([operation])).rejects.toMatchObject({ code })
  })

  it.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])(
    'refuses %d among the weights and says where',
    async (value) => {
      const tensors = withTensors({ 'q.B': f32([8, 2], (i) => (i === 5 ? value : 1)) })
      await expect(verify(OPERATIONS, tensors)).rejects.toMatchObject({
        code: 'ERR_WEIGHTS_NON_FINITE',
        message: expect.stringContaining('tensor q.B: element 5'),
      })
    },
  )

  it('refuses an f64 weight that overflows f32', async () => {
    const data = new Uint8Array(Float64Array.from({ length: 8 }, () => 1e300).buffer)
    const tensors = withTensors({ norm: { dtype: 'F64', shape: [8], data } })
    await expect(verify(OPERATIONS, tensors)).rejects.toMatchObject({
      code: 'ERR_WEIGHTS_NON_FINITE',
    })
  })

  const bottleneckZero = { 'bn.u': zeros([8, 2]), 'bn.ub': zeros([8]) }
  it.each<[string, Operation[], Record<string, Tensor>]>([
    ['B and its bias are zero', [LOW_RANK], { 'q.B': zeros([8, 2]), 'q.b': zeros([8]) }],
    ['A is zero', [LOW_RANK], { 'q.A': zeros([2, 8]), 'q.b': zeros([8]) }],
    [
      'A and B are zero in different ranks',
      [LOW_RANK],
      {
        'q.A': f32([2, 8], (i) => (i < 8 ? 1 : 0)),
        'q.B': f32([8, 2], (i) => i % 2),
        'q.b': zeros([8]),
      },
    ],
    ['the scale is zero', [{ ...LOW_RANK, scale: '0' } as Operation], {}],
    ['l is one everywhere', [SCALE], { 'd.l': f32([12], () => 1) }],
    ['the up projection is zero', [BOTTLENECK], bottleneckZero],
    ['the channel scale is zero', [BOTTLENECK], { 'bn.s': zeros([8]) }],
  ])('refuses an adapter without effect: %s', async (_, operations, changes) => {
    await expect(verify(operations, withTensors(changes))).rejects.toMatchObject({
      code: 'ERR_ZERO_EFFECT',
    })
  })

  it('accepts zeros at one site when another has an effect', () =>
    expect(
      verify([LOW_RANK, SCALE], withTensors({ 'q.B': zeros([8, 2]) })),
    ).resolves.toBeUndefined())
})

describe('lowRankNorm', () => {
  it('is the Frobenius norm of the product', () => {
    const [rank, inside, out] = [3, 5, 4]
    const a = Float32Array.from({ length: rank * inside }, (_, i) => Math.sin(i + 1))
    const b = Float32Array.from({ length: out * rank }, (_, i) => Math.cos(i * 3))
    let sum = 0
    for (let o = 0; o < out; o++)
      for (let i = 0; i < inside; i++) {
        let w = 0
        for (let r = 0; r < rank; r++) w += b[o * rank + r]! * a[r * inside + i]!
        sum += (1.5 * w) ** 2
      }
    expect(lowRankNorm(a, b, rank, -1.5)).toBeCloseTo(Math.sqrt(sum), 6)
  })
})

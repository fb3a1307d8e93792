import { castAdapter } from '@graft/convert/cast-dtype.ts'
import { openAdapter } from '@graft/convert/export-adapter.ts'
import { heldBytes, readAll } from '@graft/sdk/format/byte-source.ts'
import { toFloat32 } from '@graft/sdk/format/dtypes.ts'
import { heldTensor } from '@graft/sdk/format/tensor-source.ts'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { importFixture } from './fixtures.ts'

const A = 'model.layers.0.self_attn.q_proj::lora.A'

/** The fixture with `values` in the place of one A [4, 32]. */
async function cast(values: Float32Array, to: 'float16' | 'bfloat16') {
  const { manifest, safetensors } = await importFixture('peft-lora')
  const open = await openAdapter(manifest, heldBytes(safetensors))
  const data = new Uint8Array(values.slice().buffer)
  const tensors = new Map(open.tensors).set(A, heldTensor({ dtype: 'F32', shape: [4, 32], data }))
  const { adapter, losses } = await castAdapter({ manifest, tensors }, to)
  const { dtype, data: out } = adapter.tensors.get(A)!
  const loss = losses.find(({ site, field }) => A.startsWith(`${site}::`) && field === 'A')
  return { dtype, bytes: await readAll(out), loss: loss?.maxAbsError ?? 0 }
}

/** Any bits of a finite f32 below a bound: subnormals, ties and both zeros among them. */
const floats = (below: number) =>
  fc
    .uint32Array({ minLength: 128, maxLength: 128 })
    .map((bits) => new Float32Array(Uint32Array.from(bits).buffer))
    .map((v) => v.map((x) => (Number.isFinite(x) && Math.abs(x) < below ? x : x % 3 || 0.5)))
    .map((v) => v.map((x) => (Number.isFinite(x) ? x : 1)))

describe('weights of another dtype', () => {
  it("rounds to halves as the engine's own Float16Array does, and reports the largest error", async () => {
    await fc.assert(
      fc.asyncProperty(floats(65_504), async (values) => {
        const { dtype, bytes, loss } = await cast(values, 'float16')
        const want = new Float16Array(values)
        expect(dtype).toBe('F16')
        expect(Buffer.compare(bytes, new Uint8Array(want.buffer))).toBe(0)
        expect(loss).toBe(values.reduce((m, v, i) => Math.max(m, Math.abs(v - want[i]!)), 0))
      }),
      { numRuns: 60 },
    )
  })

  it('rounds to the nearest bfloat16, an even one when there are two', async () => {
    await fc.assert(
      fc.asyncProperty(floats(3e38), async (values) => {
        const { bytes } = await cast(values, 'bfloat16')
        const got = toFloat32('BF16', bytes)
        const words = new Uint16Array(bytes.slice().buffer)
        for (const [i, value] of values.entries()) {
          const near = (step: number): number =>
            toFloat32('BF16', new Uint8Array(Uint16Array.of(words[i]! + step).buffer))[0]!
          for (const other of [near(1), near(-1)]) {
            const [mine, its] = [Math.abs(got[i]! - value), Math.abs(other - value)]
            if (Number.isFinite(other))
              expect(mine < its || (mine === its && words[i]! % 2 === 0)).toBe(true)
          }
        }
      }),
      { numRuns: 40 },
    )
  })

  it('refuses a weight beyond the range and names the dtype that has it', async () => {
    const values = new Float32Array(128).fill(70_000)
    await expect(cast(values, 'float16')).rejects.toMatchObject({
      code: 'ERR_WEIGHTS_NON_FINITE',
      message: expect.stringMatching(/lora\.A.*bfloat16/),
    })
    expect((await cast(values, 'bfloat16')).dtype).toBe('BF16')
  })
})

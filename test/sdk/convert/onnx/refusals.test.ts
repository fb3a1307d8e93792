import { ortAdapter } from '@graft/convert/onnx/write-adapter.ts'
import { heldBytes, readAll } from '@graft/sdk/format/byte-source.ts'
import { isGraftError } from '@graft/sdk/format/errors.ts'
import type { TensorSource } from '@graft/sdk/format/tensor-source.ts'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { importFixture } from '../fixtures.ts'
import { adapterOf, exportOnnx, importOnnx } from './helpers.ts'

const V = 'model.layers.0.self_attn.v_proj'

const floats = (...shape: number[]): TensorSource => {
  const size = shape.reduce((n, dim) => n * dim, 1)
  const values = Float32Array.from({ length: size }, (_, i) => 0.5 + i / 8)
  return { dtype: 'F32', shape, data: heldBytes(new Uint8Array(values.buffer)) }
}

/** A whole file of ONNX Runtime's layout around these inputs. */
const file = (tensors: Record<string, TensorSource>): Promise<Uint8Array> =>
  readAll(ortAdapter(new Map(Object.entries(tensors)), { adapter: 0, model: 0 }))

const A = { [`${V}.lora_A.weight`]: floats(32, 2) }
const B = { [`${V}.lora_B.weight`]: floats(2, 16) }

describe('an .onnx_adapter that is damaged', () => {
  /** Its root lies at 12, the list of its parameters at 32. */
  const at = (name: string, place: number, value: number): Uint8Array => {
    const bytes = adapterOf(name).slice()
    new DataView(bytes.buffer).setUint32(place, value, true)
    return bytes
  }
  it.each([
    [
      'a root outside the file',
      at('versions', 0, 0x7ffffff0),
      /the root must be 4 bytes inside the file/,
    ],
    ['a vtable outside the file', at('versions', 12, 0x7ffffff0), /the root: vtable/],
    ['another version', at('versions', 16, 2), /format_version must be 1, got 2/],
    ['a billion parameters', at('versions', 32, 1e9), /parameters: length must be inside the file/],
    ['a parameter outside the file', at('versions', 36, 0x7ffffff0), /parameters\[0\]/],
  ])('by %s is refused', async (_, bytes, message) => {
    await expect(importOnnx('versions', bytes)).rejects.toMatchObject({
      code: 'ERR_CONFIG_INVALID',
      message: expect.stringMatching(message),
    })
  })

  it('is refused wherever it is cut', async () => {
    const bytes = adapterOf('versions')
    for (let size = 8; size < bytes.length - 64; size += 7)
      await expect(importOnnx('versions', bytes.slice(0, size))).rejects.toMatchObject({
        code: expect.stringMatching(/^ERR_CONFIG_INVALID|ERR_SOURCE_UNKNOWN$/),
      })
  })
})

describe('an .onnx_adapter that holds something else', () => {
  it.each([
    [
      'int4 weights of Olive',
      () => adapterOf('quantised'),
      'ERR_CONFIG_INVALID',
      /UINT8.*--quantize_int4/,
    ],
    ['no lora_B', () => file(A), 'ERR_TENSOR_MISSING', /has no lora_B.weight/],
    ['no lora_A', () => file(B), 'ERR_TENSOR_MISSING', /has no lora_A.weight/],
    [
      'a magnitude',
      () => file({ ...A, ...B, [`${V}.lora_magnitude_vector`]: floats(16) }),
      'ERR_METHOD_UNSUPPORTED',
      /DoRA/,
    ],
    [
      'a bias',
      () => file({ ...A, ...B, [`${V}.lora_B.bias`]: floats(16) }),
      'ERR_METHOD_UNSUPPORTED',
      /a bias of the update/,
    ],
    [
      'an embedding',
      () => file({ 'model.embed_tokens.lora_embedding_A': floats(48, 2) }),
      'ERR_METHOD_UNSUPPORTED',
      /whose scale Olive leaves out/,
    ],
    [
      'names of another graph',
      () => file({ 'layer0.q.down': floats(32, 2) }),
      'ERR_TENSOR_UNMATCHED',
      /graph input layer0.q.down is not named as Olive does/,
    ],
    [
      "PEFT's orientation",
      () => file({ [`${V}.lora_A.weight`]: floats(2, 32), [`${V}.lora_B.weight`]: floats(16, 2) }),
      'ERR_TENSOR_SHAPE',
      /lora_A.weight must be \[32,\*\] for this base, got \[2,32\]/,
    ],
    [
      'ranks that differ',
      () => file({ ...A, [`${V}.lora_B.weight`]: floats(3, 16) }),
      'ERR_TENSOR_SHAPE',
      /lora_B.weight must be \[2,16\]/,
    ],
    [
      'a module of another base',
      () =>
        file({
          'model.layers.9.self_attn.v_proj.lora_A.weight': floats(32, 2),
          'model.layers.9.self_attn.v_proj.lora_B.weight': floats(2, 16),
        }),
      'ERR_TENSOR_UNMATCHED',
      /which the base does not have/,
    ],
  ] as const)('%s is refused by name', async (_, bytes, code, message) => {
    await expect(importOnnx('versions', await bytes())).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message),
    })
  })
})

describe('an adapter that .onnx_adapter cannot hold', () => {
  it.each([
    ['peft-dora', /cannot hold DoRA \(magnitude\) at .* and 3 more/],
    ['peft-lora-bias', /cannot hold a bias of the update \(lora_bias\)/],
    ['peft-modules-to-save', /cannot hold replace at lm_head/],
    ['peft-prefix', /cannot hold prefix at .*; it holds plain low rank updates only/],
    ['ah-seq-bn', /cannot hold bottleneck at/],
    ['peft-ia3', /cannot hold scale at/],
  ])('%s is refused by name', async (name, message) => {
    await expect(exportOnnx(await importFixture(name))).rejects.toMatchObject({
      code: 'ERR_METHOD_UNSUPPORTED',
      message: expect.stringMatching(message),
    })
  })

  it('exactly says what folding its scale costs', async () => {
    const { losses, notes } = await exportOnnx(await importFixture('peft-lora-patterns'))
    expect(notes).toEqual([
      '.onnx_adapter has no scale: 1.5, 1.25, 0.8333333333333334 folded into lora_B, and not told by the file',
      'all ranks of an .onnx_adapter are one: 3 of 4 updates padded with zeros to rank 6',
    ])
    expect(new Set(losses.map(({ field }) => field))).toEqual(new Set(['scale']))
    for (const { maxAbsError } of losses) expect(maxAbsError).toBeLessThan(2 ** -25)
  })
})

describe('2,000 mutated .onnx_adapter files', () => {
  it('are refused by name or imported and given back as they are', async () => {
    let refused = 0
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom('versions', 'other-layout'),
        fc.double({ min: 0, max: 0.999, noNaN: true }),
        fc.nat(255),
        fc.constantFrom(1, 4, 8),
        async (name, where, value, width) => {
          const bytes = adapterOf(name).slice()
          const at = Math.floor(where * bytes.length)
          bytes.fill(value, at, at + width)
          try {
            const imported = await importOnnx(name, bytes)
            expect(imported.report.byteExact).toBe(true)
            expect((await exportOnnx(imported)).bytes).toEqual(bytes)
          } catch (error) {
            if (!isGraftError(error)) throw error
            refused++
          }
        },
      ),
      { numRuns: 2000, seed: 20, endOnFailure: true },
    )
    expect(refused).toBeGreaterThan(100)
    expect(refused).toBeLessThan(1950)
  }, 60_000)
})

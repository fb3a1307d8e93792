import { readGgufHeader } from '@graft/convert/gguf/open-gguf.ts'
import { dequantiseQ8, quantiseQ8 } from '@graft/convert/gguf/q8-0.ts'
import { heldBytes } from '@graft/sdk/format/byte-source.ts'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { tensorsOf } from '../fixtures.ts'
import { baseOf, ggufOf, importAdapterOf, importGguf, importPeft, peftOf } from './helpers.ts'
import { gguf, type HandTensor } from './write-gguf.ts'

/** A block by hand: the bits of its scale, and 32 bytes. */
const block = (scale: number, ...q: number[]): number[] => [
  scale & 255,
  scale >> 8,
  ...Array.from({ length: 32 }, (_, i) => (q[i % q.length]! + 256) % 256),
]
const ONE = 0x3c00

describe('Q8_0', () => {
  it("of PEFT's values is, byte for byte, what llama.cpp's converter wrote", async () => {
    const base = await baseOf('llama-q8')
    const values = tensorsOf((await importPeft(peftOf('llama-q8'), base)).safetensors)
    const bytes = ggufOf('llama-q8')
    const { header } = await readGgufHeader(heldBytes(bytes))
    const { begin, end } = header.tensors.find(
      ({ name }) => name === 'blk.0.ffn_down.weight.lora_a',
    )!
    const want = bytes.slice(header.dataStart + begin, header.dataStart + end)
    expect(quantiseQ8(values.get('model.layers.0.mlp.down_proj::lora.A')!.data)).toEqual(want)
  })

  it('stands for its scale times each byte, exactly', () => {
    const [a, b, c] = [block(ONE, 1, -128, 127), block(0x0001, 127), block(0x7bff, -127)]
    const values = dequantiseQ8(Uint8Array.from([...a, ...b, ...c]))
    expect([...values.subarray(0, 3)]).toEqual([1, -128, 127])
    expect(values[32]).toBe(127 * 2 ** -24)
    expect(values[64]).toBe(-127 * 65_504)
  })

  it('whose largest byte is 127 comes back from its values', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 0x7bff }),
        fc.array(fc.integer({ min: -127, max: 127 }), { minLength: 31, maxLength: 31 }),
        fc.constantFrom(127, -127),
        (scale, q, most) => {
          const bytes = Uint8Array.from(block(scale, ...q, most))
          expect(quantiseQ8(dequantiseQ8(bytes))).toEqual(bytes)
        },
      ),
    )
  })
})

/** lora_a of rank 32 in Q8_0 with these blocks, and a plain lora_b. */
const adapter = (blocks: number[][]): Uint8Array => {
  const a = Uint8Array.from(blocks.flat())
  const b = new Uint8Array(Float32Array.from({ length: 32 * 16 }, (_, i) => i / 64).buffer)
  const tensors: HandTensor[] = [
    { name: 'blk.0.attn_v.weight.lora_a', ne: [32, 32], type: 8, data: a },
    { name: 'blk.0.attn_v.weight.lora_b', ne: [32, 16], data: b },
  ]
  return gguf({ tensors })
}

describe('an adapter in Q8_0', () => {
  it('comes back byte for byte also where a scale was too small for f16', async () => {
    const blocks = Array.from({ length: 32 }, (_, i) => block(i === 3 ? 0 : ONE + i, 5, -127))
    const { report, manifest } = await importAdapterOf(adapter(blocks))
    expect(report).toMatchObject({ byteExact: true, flags: ['dequantised'] })
    expect(manifest.origin?.literals).toMatchObject([
      { key: 'blk.0.attn_v.weight.lora_a.stray_blocks', dtype: 'U8', shape: [38] },
    ])
  })

  it('needs nothing beside its values where llama.cpp wrote it', async () => {
    const { manifest } = await importGguf(ggufOf('llama-q8'), await baseOf('llama-q8'))
    expect(manifest.origin?.literals).toBeUndefined()
  })

  it('of another quantiser is refused when that would keep it twice', async () => {
    const tensors: HandTensor[] = [0, 1].flatMap((layer) =>
      ['attn_v', 'ffn_up'].flatMap((module): HandTensor[] => {
        const out = module === 'attn_v' ? 16 : 48
        const rank = 512
        return [
          {
            name: `blk.${layer}.${module}.weight.lora_a`,
            ne: [32, rank],
            type: 8,
            data: Uint8Array.from(Array.from({ length: rank }, () => block(ONE, 5, -60)).flat()),
          },
          {
            name: `blk.${layer}.${module}.weight.lora_b`,
            ne: [rank, out],
            data: new Uint8Array(Float32Array.from({ length: rank * out }, () => 1).buffer),
          },
        ]
      }),
    )
    await expect(importAdapterOf(gguf({ tensors }))).rejects.toMatchObject({
      code: 'ERR_METHOD_UNSUPPORTED',
      message: expect.stringMatching(
        /quantised as llama.cpp's own converter does it.*--outtype f32/,
      ),
    })
  })
})

import { describe, expect, it } from 'vitest'
import { tensorsOf } from '../fixtures.ts'
import { baseOf, exportFiles, FAMILIES, ggufOf, importGguf, importPeft, peftOf } from './helpers.ts'

/** llama.cpp's converter leaves GPT-2's factors turned over; the refusals test that file. */
const READ = FAMILIES.filter((family) => family !== 'gpt2')
/** The same values as in PEFT's folder. */
const F32 = READ.filter((family) => !/f16|q8/.test(family))

const bySite = (operations: readonly { site: string }[]) =>
  [...operations].sort((a, b) => (a.site < b.site ? -1 : 1))

describe('LoRA as llama.cpp converts it', () => {
  it.each(F32)('%s compiles to the operations and tensors of the PEFT folder', async (family) => {
    const base = await baseOf(family)
    const gguf = await importGguf(ggufOf(family), base)
    const peft = await importPeft(peftOf(family), base)
    expect(bySite(gguf.manifest.operations)).toEqual(bySite(peft.manifest.operations))
    expect(gguf.safetensors).toEqual(peft.safetensors)
  })

  it.each(READ)('%s comes back byte for byte from the canonical tensors', async (family) => {
    const base = await baseOf(family)
    const imported = await importGguf(ggufOf(family), base)
    expect(imported.report).toMatchObject({ format: 'gguf', byteExact: true })
    const { bytes, losses } = await exportFiles('gguf', imported)
    expect(bytes).toEqual(ggufOf(family))
    expect(losses).toEqual([])
  })

  it.each([
    ['llama-f16', 'F16', 2 ** -11],
    ['llama-bf16', 'BF16', 2 ** -8],
    ['llama-q8', 'F32', 1 / 127],
  ])('%s keeps the values of the file, as %s', async (family, dtype, precision) => {
    const base = await baseOf(family)
    const { manifest, safetensors, report } = await importGguf(ggufOf(family), base)
    const want = tensorsOf((await importPeft(peftOf(family), base)).safetensors)
    expect(new Set(manifest.tensors.map((row) => row.dtype))).toEqual(new Set([dtype]))
    expect(report.flags).toEqual(family === 'llama-q8' ? ['dequantised'] : [])
    for (const [name, { data }] of tensorsOf(safetensors)) {
      const source = want.get(name)!.data
      const most = source.reduce((m, v) => Math.max(m, Math.abs(v)), 0)
      const error = data.reduce((m, v, i) => Math.max(m, Math.abs(v - source[i]!)), 0)
      expect(error).toBeGreaterThan(0)
      expect(error).toBeLessThan(most * precision)
    }
  })

  it('scales by alpha over the rank of each tensor', async () => {
    const { report } = await importGguf(ggufOf('llama'), await baseOf('llama'))
    expect(report).toMatchObject({
      family: 'lora',
      scales: ['1.5'],
      operations: { low_rank: 14 },
      inertKeys: ['general.name', 'general.quantization_version'],
    })
  })

  it('turns the rows of q and k as head counts say, and of nothing else', async () => {
    const base = await baseOf('llama')
    const { manifest } = await importGguf(ggufOf('llama'), base)
    const turned = manifest.origin!.keyMap.filter((row) => row.transform !== 'identity')
    expect(turned.map((row) => [row.key, row.transform])).toEqual([
      ['blk.0.attn_k.weight.lora_b', 'block 2,4,2,2 0,0,0,0 2,4,2,2 0,2,1,3 16,2'],
      ['blk.0.attn_q.weight.lora_b', 'block 4,4,2,2 0,0,0,0 4,4,2,2 0,2,1,3 32,2'],
      ['blk.1.attn_k.weight.lora_b', 'block 2,4,2,2 0,0,0,0 2,4,2,2 0,2,1,3 16,2'],
      ['blk.1.attn_q.weight.lora_b', 'block 4,4,2,2 0,0,0,0 4,4,2,2 0,2,1,3 32,2'],
    ])
  })
})

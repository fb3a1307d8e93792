import { join } from 'node:path'
import { readGgufHeader } from '@graft/convert/gguf/open-gguf.ts'
import { heldBytes } from '@graft/sdk/format/byte-source.ts'
import { toFloat32 } from '@graft/sdk/format/dtypes.ts'
import type { LowRank } from '@graft/sdk/format/operations.ts'
import { describe, expect, it } from 'vitest'
import { importFixture, tensorsOf, type Values } from '../fixtures.ts'
import { expectedDeltas, FIXTURES, importMade, MADE } from '../peft/low-rank.ts'
import {
  baseIn,
  baseOf,
  exportFiles,
  FAMILIES,
  ggufOf,
  importGguf,
  importPeft,
  peftOf,
} from './helpers.ts'

/** Alpha and the tensors of a file, by name. */
async function contents(bytes: Uint8Array) {
  const { header } = await readGgufHeader(heldBytes(bytes))
  const tensors = header.tensors.map(({ name, type, shape, begin, end }) => ({
    name,
    type: type.name,
    shape,
    data: bytes.slice(header.dataStart + begin, header.dataStart + end),
  }))
  return {
    alpha: header.metadata.get('adapter.lora.alpha')?.value,
    metadata: Object.fromEntries([...header.metadata].map(([key, { value }]) => [key, value])),
    tensors: new Map(tensors.map((tensor) => [tensor.name, tensor])),
  }
}

const CONVERT_BASE = new URL('../fixtures/base', import.meta.url).pathname

describe('GGUF from a PEFT folder', () => {
  it.each(FAMILIES.filter((family) => !/f16|q8|gpt2/.test(family)))(
    '%s: has the alpha and the tensors that llama.cpp converts the folder to',
    async (family) => {
      const base = await baseOf(family)
      const exported = await exportFiles('gguf', await importPeft(peftOf(family), base), base)
      expect(exported).toMatchObject({ losses: [], notes: [] })
      const [got, want] = [await contents(exported.bytes), await contents(ggufOf(family))]
      expect(got.alpha).toBe(want.alpha)
      expect(got.tensors).toEqual(want.tensors)
    },
  )

  it('names the adapter, and llama.cpp reads the rest', async () => {
    const base = await baseOf('llama')
    const { bytes } = await exportFiles('gguf', await importPeft(peftOf('llama'), base), base)
    expect((await contents(bytes)).metadata).toEqual({
      'general.architecture': 'llama',
      'general.type': 'adapter',
      'general.name': '@acme/fixture',
      'general.version': '1.0.0',
      'adapter.type': 'lora',
      'adapter.lora.alpha': 3,
    })
  })

  it('keeps half precision where nothing is folded', async () => {
    const base = await baseIn(CONVERT_BASE)
    const { bytes, losses } = await exportFiles('gguf', await importFixture('peft-lora-f16'), base)
    const { tensors } = await contents(bytes)
    expect(new Set([...tensors.values()].map(({ type }) => type))).toEqual(new Set(['F16']))
    expect(losses).toEqual([])
  })

  it('of rsLoRA has the alpha that gives its scale, which the converter does not', async () => {
    const base = await baseIn(CONVERT_BASE)
    const imported = await importFixture('peft-rslora')
    const { bytes, losses, notes } = await exportFiles('gguf', imported, base)
    expect((await contents(bytes)).alpha).toBe(16)
    expect({ losses, notes }).toEqual({ losses: [], notes: [] })
  })
})

const updates = (operations: readonly { op: string }[]) => operations as readonly LowRank[]

/** s B A [out, in] in f64. */
function delta(tensors: Map<string, Values>, { slots, scale, rank, ...op }: LowRank): Float64Array {
  const [a, b] = [tensors.get(slots.A)!.data, tensors.get(slots.B)!.data]
  const sum = new Float64Array(op.out * op.in)
  for (let o = 0; o < op.out; o++)
    for (let i = 0; i < op.in; i++)
      for (let r = 0; r < rank; r++)
        sum[o * op.in + i]! += Number(scale) * b[o * rank + r]! * a[r * op.in + i]!
  return sum
}

describe('one alpha a file', () => {
  it('is that of most updates; the others are folded into lora_b and what that costs is told', async () => {
    const base = await baseIn(CONVERT_BASE)
    const imported = await importFixture('peft-lora-patterns')
    const { bytes, losses, notes } = await exportFiles('gguf', imported, base)
    const { alpha, tensors } = await contents(bytes)
    // q_proj: 1.25 at rank 4 and 0.8333 at rank 6 are one alpha; down_proj: 1.5 at rank 2 is another.
    expect(alpha).toBe(5)
    expect(notes).toEqual([
      'GGUF has one alpha a file, here 5: 2 of 4 updates have their scale folded into lora_b (model.layers.0.mlp.down_proj: 1.5 instead of 2.5)',
    ])
    expect(losses.map(({ site, field }) => [site, field])).toEqual([
      ['model.layers.0.mlp.down_proj', 'scale'],
      ['model.layers.1.mlp.down_proj', 'scale'],
    ])
    const source = tensorsOf(imported.safetensors)
    for (const { site, maxAbsError } of losses) {
      const name = `blk.${site.split('.')[2]}.ffn_down.weight.lora_b`
      const folded = toFloat32('F32', tensors.get(name)!.data)
      const { data } = source.get(`${site}::lora.B`)!
      const error = data.reduce((m, v, i) => Math.max(m, Math.abs(folded[i]! - v * (1.5 / 2.5))), 0)
      expect(maxAbsError).toBe(error)
      expect(error).toBeGreaterThan(0)
      expect(error).toBeLessThan(1e-8)
    }
  })

  it('folds powers of two without any loss', async () => {
    const base = await baseIn(CONVERT_BASE)
    const imported = await importFixture('peft-lora')
    const operations = updates(imported.manifest.operations)
    // Scales 2, 2, 2 and 8: the last becomes four times its B.
    const manifest = {
      ...imported.manifest,
      origin: null,
      operations: operations.map((op, i) => (i === 3 ? { ...op, scale: '8' } : op)),
    }
    const { bytes, losses, notes } = await exportFiles('gguf', { ...imported, manifest }, base)
    expect(losses).toEqual([])
    expect(notes).toHaveLength(1)
    const again = await importGguf(bytes, base)
    const [got, want] = [tensorsOf(again.safetensors), tensorsOf(imported.safetensors)]
    const { site } = operations[3]!
    expect(again.report.scales).toEqual(['2'])
    for (const [name, { data }] of want) {
      const factor = name === `${site}::lora.B` ? 4 : 1
      expect(got.get(name)!.data).toEqual(data.map((v) => factor * v))
    }
  })

  it('imported again computes what the adapter computed', async () => {
    const base = await baseIn(CONVERT_BASE)
    const imported = await importFixture('peft-lora-patterns')
    const { bytes } = await exportFiles('gguf', imported, base)
    const again = await importGguf(bytes, base)
    const [after, before] = [tensorsOf(again.safetensors), tensorsOf(imported.safetensors)]
    for (const op of updates(imported.manifest.operations)) {
      const other = updates(again.manifest.operations).find(({ site }) => site === op.site)!
      const [got, want] = [delta(after, other), delta(before, op)]
      const most = want.reduce((m, v) => Math.max(m, Math.abs(v)), 0)
      const error = got.reduce((m, v, i) => Math.max(m, Math.abs(v - want[i]!)), 0)
      expect(error / most).toBeLessThan(1e-6)
    }
  })
})

describe('factors that llama.cpp has no place for', () => {
  it.each(['adalora-no-alpha', 'adalora-gpt2', 'vera'])(
    "%s: are folded into lora_a and lora_b, which then give PEFT's own delta",
    async (name) => {
      const base = await baseIn(join(FIXTURES, 'bases', MADE[name]!))
      const { bytes, losses } = await exportFiles('gguf', await importMade(name), base)
      for (const { what, maxAbsError } of losses) {
        expect(what).toMatch(/folded into [AB], rounded to f32/)
        expect(maxAbsError).toBeLessThan(1e-7)
      }
      const { manifest, safetensors } = await importGguf(bytes, base)
      const tensors = tensorsOf(safetensors)
      const want = expectedDeltas(name)
      expect(want.size).toBeGreaterThan(0)
      for (const [site, { data }] of want) {
        const op = updates(manifest.operations).find((one) => one.site === site)
        // AdaLoRA may have pruned a module to rank 0.
        const got = op === undefined ? new Float64Array(data.length) : delta(tensors, op)
        expect(Math.max(...data.map((v, i) => Math.abs(v - got[i]!)))).toBeLessThan(1e-6)
      }
    },
  )
})

describe('an adapter that GGUF cannot hold', () => {
  it.each([
    [
      'peft-dora',
      /GGUF cannot hold DoRA \(magnitude\) at .* and 3 more; .*Convert --to peft, or merge/,
    ],
    ['peft-lora-bias', /a bias of the update/],
    ['peft-modules-to-save', /cannot hold replace at lm_head/],
    ['peft-prefix', /cannot hold prefix/],
    ['peft-prompt', /cannot hold prompt/],
    ['peft-ia3', /cannot hold scale/],
    ['ah-double-seq-bn', /cannot hold bottleneck/],
  ])('%s is refused by name', async (name, message) => {
    const base = await baseIn(CONVERT_BASE)
    await expect(exportFiles('gguf', await importFixture(name), base)).rejects.toMatchObject({
      code: 'ERR_METHOD_UNSUPPORTED',
      message: expect.stringMatching(message),
    })
  })

  it('for want of the head counts is refused with what to give', async () => {
    await expect(exportFiles('gguf', await importFixture('peft-lora'))).rejects.toMatchObject({
      code: 'ERR_REQUEST_INVALID',
      message: expect.stringMatching(/--base/),
    })
  })

  it('with an update of a head that shares the embedding is refused, as llama.cpp has no such tensor', async () => {
    const base = await baseOf('llama-head')
    const imported = await importPeft(peftOf('llama-head'), base)
    const tensors = base.tensors.filter(({ name }) => name !== 'lm_head.weight')
    await expect(exportFiles('gguf', imported, { ...base, tensors })).rejects.toMatchObject({
      code: 'ERR_METHOD_UNSUPPORTED',
      message: expect.stringMatching(/an update of lm_head, whose weight the base shares/),
    })
  })

  it('for a base that llama.cpp names in another way is refused', async () => {
    const base = await baseIn(CONVERT_BASE)
    const imported = await importFixture('peft-lora')
    const manifest = {
      ...imported.manifest,
      base: { ...imported.manifest.base, modelType: 'bloom' },
    }
    await expect(exportFiles('gguf', { ...imported, manifest }, base)).rejects.toMatchObject({
      code: 'ERR_ARCHITECTURE_UNSUPPORTED',
      message: expect.stringMatching(/names of a bloom base are not known/),
    })
  })
})

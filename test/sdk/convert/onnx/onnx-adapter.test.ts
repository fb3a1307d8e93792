import { readOrtAdapter } from '@graft/convert/onnx/read-adapter.ts'
import { heldBytes } from '@graft/sdk/format/byte-source.ts'
import { describe, expect, it } from 'vitest'
import { importFixture, tensorsOf } from '../fixtures.ts'
import { adapterOf, exportOnnx, FILES, importOnnx } from './helpers.ts'

/** B A times the scale of each site, in f64. */
function deltas({ manifest, safetensors }: Awaited<ReturnType<typeof importFixture>>) {
  const tensors = tensorsOf(safetensors)
  return new Map(
    manifest.operations.map((op) => {
      if (op.op !== 'low_rank') throw new Error(op.op)
      const { in: inside, out, rank } = op
      const [a, b] = [tensors.get(op.slots.A)!.data, tensors.get(op.slots.B)!.data]
      const delta = new Float64Array(out * inside)
      for (let o = 0; o < out; o++)
        for (let r = 0; r < rank; r++)
          for (let i = 0; i < inside; i++)
            delta[o * inside + i]! += Number(op.scale) * b[o * rank + r]! * a[r * inside + i]!
      return [op.site, delta] as const
    }),
  )
}

function worst(got: Map<string, Float64Array>, want: Map<string, Float64Array>): number {
  expect([...got.keys()].sort()).toEqual([...want.keys()].sort())
  return Math.max(
    ...[...got].map(([site, delta]) =>
      delta.reduce((w, v, i) => Math.max(w, Math.abs(v - want.get(site)![i]!)), 0),
    ),
  )
}

describe('.onnx_adapter', () => {
  it.each([
    ['peft-lora', 'peft-lora', 1e-7],
    ['peft-rslora', 'peft-rslora', 1e-7],
    ['peft-lora-gpt2', 'peft-lora-gpt2', 1e-7],
    ['peft-lora-f16', 'peft-lora', 1e-3],
  ])("%s of Olive's means what its PEFT folder means", async (name, peft, tolerance) => {
    const imported = await importOnnx(name)
    expect(worst(deltas(imported), deltas(await importFixture(peft)))).toBeLessThan(tolerance)
    expect(imported.report).toMatchObject({ scales: ['1'], flags: ['scale_folded'] })
  })

  it.each(FILES)('%s comes back byte for byte', async (name) => {
    const imported = await importOnnx(name)
    expect(imported.report.byteExact).toBe(true)
    const { bytes, losses } = await exportOnnx(imported)
    expect(bytes).toEqual(adapterOf(name))
    expect(losses).toEqual([])
    // Only a layout that is not ONNX Runtime's own needs more than its version numbers.
    expect(imported.manifest.origin?.header === undefined).toBe(name !== 'other-layout')
  })

  it('written from a PEFT folder is, but for the order of tensors, what Olive writes', async () => {
    const { bytes, losses, notes } = await exportOnnx(await importFixture('peft-lora'))
    const read = async (file: Uint8Array) => {
      const { parameters } = await readOrtAdapter(heldBytes(file))
      return new Map(
        parameters.map(({ name, dtype, shape, begin, end }) => [
          name,
          { dtype, shape, data: file.slice(begin, end) },
        ]),
      )
    }
    expect(await read(bytes)).toEqual(await read(adapterOf('peft-lora')))
    expect(losses).toEqual([])
    expect(notes).toEqual([
      '.onnx_adapter has no scale: 2 folded into lora_B, and not told by the file',
    ])
  })
})

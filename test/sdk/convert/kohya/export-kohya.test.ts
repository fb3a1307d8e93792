import { exportAdapter, exportTo, openAdapter } from '@graft/convert/export-adapter.ts'
import { importAdapter } from '@graft/convert/import-adapter.ts'
import { heldBytes, readAll } from '@graft/sdk/format/byte-source.ts'
import { sameFingerprint } from '@graft/sdk/format/fingerprint.ts'
import type { Manifest } from '@graft/sdk/format/manifest.ts'
import type { LowRank } from '@graft/sdk/format/operations.ts'
import { adapterProofs } from '@graft/sdk/format/proofs.ts'
import { readSafetensors } from '@graft/sdk/format/safetensors.ts'
import { describe, expect, it } from 'vitest'
import * as peft from '../fixtures.ts'
import { importFixture, weightsOf } from './fixtures.ts'

const KOHYA = [
  'kohya-sd',
  'kohya-alphas',
  'diffusers-kohya',
  'lycoris-lora',
  'lycoris-dora',
  'lycoris-loha',
  'lycoris-lokr',
]
const DIFFUSERS = ['diffusers-metadata', 'diffusers-plain', 'diffusers-old']

describe('back to the author', () => {
  it.each([...KOHYA, ...DIFFUSERS])(
    '%s: byte for byte, from the canonical tensors and the origin',
    async (name) => {
      const { manifest, safetensors } = await importFixture(name)
      const files = await exportAdapter({ manifest, safetensors: new Uint8Array(safetensors) })
      const [path, bytes] = [...files][0]!
      expect(path).toBe(
        DIFFUSERS.includes(name) ? 'pytorch_lora_weights.safetensors' : 'lora.safetensors',
      )
      expect(Buffer.compare(bytes, weightsOf(name)[1])).toBe(0)
    },
  )
})

async function toKohya(name: string, edit: (manifest: Manifest) => Partial<Manifest> = () => ({})) {
  const { manifest, safetensors } = await peft.importFixture(name)
  const adapter = await openAdapter({ ...manifest, ...edit(manifest) }, heldBytes(safetensors))
  const result = await exportTo('kohya', adapter)
  const bytes = await readAll(result.files.get('lora.safetensors')!)
  return { ...result, bytes, adapter }
}

const scaled =
  (scale: string) =>
  (manifest: Manifest): Partial<Manifest> => ({
    operations: (manifest.operations as LowRank[]).map((op) => ({ ...op, scale })),
  })

describe('from a PEFT adapter', () => {
  it('gives every module its alpha, so that ranks and scales of their own survive', async () => {
    const { bytes, adapter, losses } = await toKohya('peft-lora-patterns')
    expect(losses).toEqual([])
    const base = await peft.fixtureBase()
    const files = new Map([['any-name', bytes]])
    const again = await importAdapter({ files, base, name: '@acme/again', version: '1.0.0' })
    expect(again.report.format).toBe('kohya')
    const open = await openAdapter(again.manifest, heldBytes(again.safetensors))
    const [a, b] = await Promise.all([
      adapterProofs(adapter.manifest, adapter.tensors),
      adapterProofs(open.manifest, open.tensors),
    ])
    expect(sameFingerprint(a.fingerprint, b.fingerprint)).toBe(true)
    expect(readSafetensors(bytes).metadata).toEqual({
      ss_network_module: 'networks.lora',
      ss_network_dim: 'Dynamic',
      ss_network_alpha: 'Dynamic',
    })
  })

  it('reports the scale that an f32 alpha cannot hold, and by how much', async () => {
    const { losses } = await toKohya('peft-lora', scaled('0.3'))
    expect(losses).toHaveLength(4)
    expect(losses[0]).toMatchObject({ site: 'model.layers.0.mlp.down_proj', field: 'scale' })
    const alpha = Math.fround(0.3 * 4)
    expect(losses[0]!.maxAbsError).toBe(Math.abs(alpha / 4 - 0.3))
  })

  it.each([
    [
      'peft-ia3',
      /scale at model\.layers\.0\.mlp\.down_proj: Kohya's format holds LoRA and DoRA only/,
    ],
    ['peft-lora-bias', /a bias of B \(lora_bias\)/],
    ['peft-modules-to-save', /replace at lm_head/],
  ])('refuses %s by name', async (name, message) => {
    await expect(toKohya(name)).rejects.toMatchObject({
      code: 'ERR_METHOD_UNSUPPORTED',
      message: expect.stringMatching(message),
    })
  })

  it('refuses a scale of 0 parts in f32, which Kohya reads as the rank', async () => {
    await expect(toKohya('peft-lora', scaled(`0.${'0'.repeat(49)}1`))).rejects.toMatchObject({
      code: 'ERR_METHOD_UNSUPPORTED',
      message: expect.stringMatching(/read 0 as "the rank"/),
    })
  })
})

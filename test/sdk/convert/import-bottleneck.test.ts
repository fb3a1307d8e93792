import { describe, expect, it } from 'vitest'
import { expectedOf, fixtures, importFixture, tensorsOf, withConfig } from './fixtures.ts'
import { applyBottleneck, gateOver, rows } from './reference-maths.ts'

const MODULES = {
  attention: 'attention_adapters',
  parallel_attention: 'attention_adapters',
  ffn: 'output_adapters',
  parallel_ffn: 'output_adapters',
} as const

describe('bottleneck adapters from AdapterHub', () => {
  it.each(fixtures('ah'))(
    '%s answers at every place what the module of AdapterHub answers',
    async (name) => {
      const { manifest, safetensors } = await importFixture(name)
      const tensors = tensorsOf(safetensors)
      const peer = expectedOf(name)
      let compared = 0
      for (const op of manifest.operations) {
        if (op.op !== 'bottleneck') continue
        const place = `${op.site.split('.').at(-1)}.${MODULES[op.placement]}`
        const [h, x, y] = ['h', 'x', 'y'].map((key) => rows(peer.get(`${key}.${place}`)!))
        const slot = (name: string) => tensors.get(name)!.data
        const gate = gateOver(op, slot, h!, x!)
        for (const i of h!.keys()) {
          const got = applyBottleneck(op, slot, h![i]!, x![i]!, gate)
          for (const [j, v] of got.entries()) expect(v).toBeCloseTo(y![i]![j]!, 4)
          compared++
        }
      }
      const places = [...peer.keys()].filter((key) => key.startsWith('y.')).length
      expect(compared).toBe(places * 3)
    },
  )

  it('resolves reduction per layer, leave_out, norms and learned scale', async () => {
    const { manifest } = await importFixture('ah-norms')
    expect(manifest.operations).toHaveLength(2)
    expect(manifest.operations[0]).toMatchObject({
      site: 'model.layers.0',
      reduced: 8,
      activation: 'silu',
      scaling: 'learned',
      adapterResidualBeforeLn: true,
    })
  })

  // What `BnConfig` of adapters 1.3.0 takes where a key is absent, as configs of older versions have it.
  it('takes the defaults of the library for keys that the config does not have', async () => {
    const defaults = {
      original_ln_after: true,
      adapter_residual_before_ln: false,
      residual_before_ln: true,
      is_parallel: false,
      ln_before: false,
      ln_after: false,
      scaling: 1,
      use_gating: false,
      leave_out: [],
    }
    const given = await importFixture('ah-seq-bn', withConfig(defaults, 'config'))
    for (const key of Object.keys(defaults)) {
      const without = await importFixture('ah-seq-bn', withConfig({ [key]: undefined }, 'config'))
      expect([key, without.manifest.operations]).toEqual([key, given.manifest.operations])
    }
  })

  it('reads gelu as the approximation in configs older than versions', async () => {
    const old = await importFixture('ah-adapter-plus', withConfig({ version: undefined }))
    const current = await importFixture('ah-adapter-plus')
    expect([old, current].map((r) => r.manifest.operations[0])).toMatchObject([
      { activation: 'gelu_new' },
      { activation: 'gelu' },
    ])
  })

  it.each<[string, object, string, string]>([
    ['a gate without tensors', { use_gating: true }, 'ERR_TENSOR_MISSING', 'gate.weight'],
    ['compacter layers', { phm_layer: true }, 'ERR_METHOD_UNSUPPORTED', 'phm_layer'],
    ['invertible adapters', { inv_adapter: 'nice' }, 'ERR_METHOD_UNSUPPORTED', 'inv_adapter'],
    ['another architecture', { architecture: 'reft' }, 'ERR_METHOD_UNSUPPORTED', 'architecture'],
    ['an unknown activation', { non_linearity: 'mish' }, 'ERR_METHOD_UNSUPPORTED', 'mish'],
    ['post_add', { residual_before_ln: 'post_add' }, 'ERR_METHOD_UNSUPPORTED', 'post_add'],
    ['an unknown key', { new_norm: true }, 'ERR_CONFIG_UNKNOWN_KEY', '"new_norm"'],
    ['another width', { reduction_factor: 4 }, 'ERR_TENSOR_SHAPE', '[8,32]'],
    ['a place without tensors', { mh_adapter: true }, 'ERR_TENSOR_MISSING', 'attention_adapters'],
    ['tensors without a place', { leave_out: [1] }, 'ERR_TENSOR_UNMATCHED', 'layers.1'],
    ['a norm without tensors', { ln_after: true }, 'ERR_TENSOR_MISSING', 'adapter_norm_after'],
    ['a scale of another kind', { scaling: 'shared' }, 'ERR_CONFIG_INVALID', 'scaling'],
  ])('refuses %s, by name', async (_, changes, code, reason) => {
    await expect(
      importFixture('ah-seq-bn', withConfig(changes as Record<string, unknown>, 'config')),
    ).rejects.toMatchObject({ code, message: expect.stringContaining(reason) })
  })

  it('refuses an adapter of another family of models, and a head that would be left behind', async () => {
    await expect(
      importFixture('ah-seq-bn', withConfig({ model_type: 'bert' })),
    ).rejects.toMatchObject({ code: 'ERR_BASE_MISMATCH' })
    await expect(
      importFixture('ah-seq-bn', (files) => files.set('pytorch_model_head.bin', new Uint8Array())),
    ).rejects.toMatchObject({ code: 'ERR_METHOD_UNSUPPORTED' })
  })

  it('refuses two copies of a norm that differ', async () => {
    const { readSafetensors, writeSafetensors } = await import('@graft/sdk/format/safetensors.ts')
    await expect(
      importFixture('ah-norms', (files) => {
        const { tensors } = readSafetensors(files.get('adapter.safetensors')!)
        const key = [...tensors.keys()].find((k) => k.endsWith('adapter_norm_before.weight'))!
        const data = tensors.get(key)!.data.slice()
        data[0]! ^= 1
        files.set(
          'adapter.safetensors',
          writeSafetensors(tensors.set(key, { ...tensors.get(key)!, data })),
        )
      }),
    ).rejects.toMatchObject({ code: 'ERR_TENSOR_UNMATCHED' })
  })
})

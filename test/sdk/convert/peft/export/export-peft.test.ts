import { exportTo, openAdapter } from '@graft/convert/export-adapter.ts'
import { importAdapter } from '@graft/convert/import-adapter.ts'
import { heldBytes, readAll } from '@graft/sdk/format/byte-source.ts'
import type { Manifest } from '@graft/sdk/format/manifest.ts'
import type { LowRank, Operation } from '@graft/sdk/format/operations.ts'
import { describe, expect, it } from 'vitest'
import { baseOf, fixtures, importFixture } from '../../fixtures.ts'

type Edit = (manifest: Manifest) => Partial<Manifest>

/** A fixture's operations written as a PEFT folder, its origin forgotten. */
async function exported(name: string, edit: Edit = () => ({})) {
  const base = await baseOf(name)
  const { manifest, safetensors } = await importFixture(name)
  const changed = { ...manifest, origin: null, ...edit(manifest) }
  const adapter = await openAdapter(changed, heldBytes(safetensors))
  const result = await exportTo('peft', adapter, { base: { tensors: base.tensors } })
  const read = [...result.files].map(
    async ([path, source]) => [path, await readAll(source)] as const,
  )
  const files = new Map(await Promise.all(read))
  const config = JSON.parse(new TextDecoder().decode(files.get('adapter_config.json')))
  return { ...result, files, config, manifest, base }
}

/** Prompt tuning and P-tuning are one operation: what an encoder made of the embeddings is embeddings. */
const byPlace = (operations: Operation[]): Operation[] =>
  [...operations].sort((a, b) => (`${a.op} ${a.site}` < `${b.op} ${b.site}` ? -1 : 1))

describe('from operations alone', () => {
  it.each(fixtures('peft'))(
    '%s: the folder means the same operations on the same bytes',
    async (name) => {
      const { files, manifest, base, losses } = await exported(name)
      const again = await importAdapter({ files, base, name: '@acme/again', version: '1.0.0' })
      expect(byPlace(again.manifest.operations)).toEqual(byPlace(manifest.operations))
      expect(again.manifest.tensors).toEqual(manifest.tensors)
      expect(losses).toEqual([])
    },
  )

  it('names modules as short as the base allows, and writes rsLoRA where that keeps alphas whole', async () => {
    expect((await exported('peft-lora')).config).toMatchObject({
      ...{ r: 4, lora_alpha: 8, use_rslora: false, target_modules: ['down_proj', 'q_proj'] },
      ...{ rank_pattern: {}, alpha_pattern: {}, task_type: 'CAUSAL_LM' },
    })
    expect((await exported('peft-rslora')).config).toMatchObject({
      use_rslora: false,
      lora_alpha: 16,
    })
    const three = await exported('peft-lora-patterns', ({ operations }) => ({
      operations: (operations as LowRank[]).map((op) => ({
        ...op,
        scale: `${5 / Math.sqrt(op.rank)}`,
      })),
    }))
    expect(three.config).toMatchObject({ use_rslora: true, lora_alpha: 5, alpha_pattern: {} })
    const one = await exported('peft-lora', ({ operations }) => ({
      operations: operations.slice(0, 1),
    }))
    expect(one.config.target_modules).toEqual(['model.layers.0.mlp.down_proj'])
  })

  it('finds for every scale the alpha that divides back to it, and says when it is no integer', async () => {
    const scales = ['0.1', '0.7071067811865476', '3.3333333333333335', '12345.678901234567']
    const { config, losses, notes } = await exported('peft-lora-patterns', ({ operations }) => ({
      operations: (operations as LowRank[]).map((op, i) => ({ ...op, scale: scales[i]! })),
    }))
    const ops = (await importFixture('peft-lora-patterns')).manifest.operations as LowRank[]
    for (const [i, { site, rank }] of ops.entries()) {
      const alpha = config.alpha_pattern[site] ?? config.lora_alpha
      expect([site, alpha / rank]).toEqual([site, Number(scales[i])])
    }
    expect([losses, notes]).toEqual([[], [expect.stringMatching(/integer.*divides any number/)]])
  })
})

describe('what PEFT cannot hold is refused by name', () => {
  const cases: [string, string, Edit, RegExp][] = [
    [
      'bottlenecks',
      'ah-seq-bn',
      () => ({}),
      /bottleneck at model\.layers\.0: PEFT has no adapter modules; convert --to adapters/,
    ],
    [
      'two methods',
      'peft-ia3',
      ({ operations }) => ({ operations: [...operations, update] }),
      /one method, this one has scale and low_rank/,
    ],
    [
      'DoRA on some modules',
      'peft-dora',
      ({ operations }) => {
        const [first, ...rest] = operations as LowRank[]
        const { A, B } = first!.slots
        return { operations: [{ ...first!, op: 'low_rank', slots: { A, B } }, ...rest] }
      },
      /some modules are DoRA and some are not/,
    ],
    [
      'a prefix that AdapterHub counts otherwise',
      'peft-prefix',
      ({ operations }) => ({
        operations: operations.map((op) => ({ ...op, firstPosition: 0 })) as Operation[],
      }),
      /the first real token has position 0, in PEFT it is 3/,
    ],
    [
      'a layer without a prefix',
      'peft-prefix',
      ({ operations }) => ({ operations: operations.slice(0, 1) }),
      /one of every layer, and these are only 1/,
    ],
    [
      'a weight replaced under its own update',
      'peft-modules-to-save',
      ({ operations }) => ({
        operations: [...operations, { ...update, site: 'model.norm' }, replaced],
      }),
      /replace at model\.norm\.weight: PEFT does not save a module that it also adapts/,
    ],
  ]
  const update: LowRank = {
    ...{
      op: 'low_rank',
      site: 'model.layers.0.self_attn.v_proj',
      in: 32,
      out: 16,
      rank: 4,
      scale: '1',
    },
    slots: {
      A: 'model.layers.0.self_attn.v_proj::lora.A',
      B: 'model.layers.0.self_attn.v_proj::lora.B',
    },
  }
  const replaced: Operation = {
    ...{ op: 'replace', site: 'model.norm', param: 'weight', shape: [32] },
    slots: { value: 'lm_head::full.w' },
  }
  it.each(cases)('%s', async (_, name, edit, message) => {
    await expect(exported(name, edit)).rejects.toMatchObject({
      code: 'ERR_METHOD_UNSUPPORTED',
      message: expect.stringMatching(message),
    })
  })
})

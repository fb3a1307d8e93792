import { exportAdapter } from '@graft/convert/export-adapter.ts'
import { deltaNorm } from '@graft/sdk/format/delta-norm.ts'
import type { LowRank, Replace } from '@graft/sdk/format/operations.ts'
import { manifestBytes, parseManifest } from '@graft/sdk/format/parse-manifest.ts'
import { describe, expect, it } from 'vitest'
import {
  deltaOf,
  expectedDeltas,
  folderOf,
  importMade,
  lowRanks,
  MADE,
  worstShare,
} from './low-rank.ts'

const REFUSED = ['dora-embedding', 'lora-parameter-gpt2', 'pissa', 'replicated', 'vera-derived']
const IMPORTED = Object.keys(MADE).filter((name) => !REFUSED.includes(name))

/** A layer's update as PEFT computed it in f32. */
const LIMIT = 1e-6

describe('every folder that PEFT wrote', () => {
  it.each(IMPORTED)(
    '%s comes back byte for byte from manifest and canonical tensors',
    async (name) => {
      const { manifest, safetensors, report } = await importMade(name)
      const stored = parseManifest(manifestBytes(manifest))
      expect(await exportAdapter({ manifest: stored, safetensors })).toEqual(folderOf(name))
      expect(report.byteExact).toBe(true)
    },
  )
})

describe('the update of every module is what PEFT computes', () => {
  it.each([
    ['lora-embedding', 3],
    ['lora-head', 3],
    ['lora-embedding-tied', 4],
    ['lora-layers', 2],
    ['velora', 4],
    ['lora-all-linear', 12],
    ['lora-parameter', 2],
    ['lora-conv', 3],
    ['lora-conv-bias', 2],
    ['lora-gaussian', 4],
    ['lora-orthogonal', 4],
    ['lora-mica', 4],
    ['pissa-converted', 4],
    ['pissa-rslora-converted', 4],
    ['olora-converted', 4],
    ['lora-experts-mixtral', 10],
    ['lora-experts-gpt-oss', 3],
    ['lora-experts-gpt-oss-v5', 3],
    ['lora-experts-llama4', 3],
    ['lora-experts-llama4-one', 2],
    ['adalora', 4],
    ['adalora-resized', 3],
    ['adalora-no-alpha', 3],
    ['adalora-gpt2', 3],
    ['vera', 6],
    ['vera-bias', 2],
    ['vera-gpt2', 2],
  ])('%s: %i modules', async (name, count) => {
    const { operations, tensors } = await importMade(name)
    const want = expectedDeltas(name)
    const own = lowRanks(operations)
    expect(own).toHaveLength(count)
    for (const op of own) {
      const delta = deltaOf(op, tensors)
      const { data } = want.get(op.site)!
      expect(worstShare(delta, data), op.site).toBeLessThan(LIMIT)
      const norm = Math.hypot(...data)
      const traced = deltaNorm(op, (slot) => tensors.get(slot)!.data)!
      expect(Math.abs(traced - norm) / norm, op.site).toBeLessThan(1e-5)
      want.delete(op.site)
    }
    // A module of which AdaLoRA dropped every rank has no operation, and no update.
    for (const [site, { data }] of want)
      expect(
        data.every((value) => value === 0),
        site,
      ).toBe(true)
  })
})

describe('AdaLoRA', () => {
  it('scales by the rank it began with, whatever is left, as PEFT does after loading', async () => {
    const { operations, manifest } = await importMade('adalora-resized')
    const scale = String(16 / (6 + 1e-5))
    expect(lowRanks(operations).map(({ rank }) => rank)).toEqual([3, 1, 6])
    expect(new Set(lowRanks(operations).map((op) => op.scale))).toEqual(new Set([scale]))
    expect(
      manifest.origin!.literals!.map(({ key, shape }) => [key.split('.').at(-1), shape]),
    ).toEqual(
      expect.arrayContaining([
        ['lora_A', [0, 48]],
        ['lora_B', [32, 0]],
        ['lora_E', [0, 1]],
      ]),
    )
  })

  it('divides the rank that is left by the one it began with where no alpha is set', async () => {
    const { operations } = await importMade('adalora-no-alpha')
    for (const op of lowRanks(operations)) expect(op.scale).toBe(String(op.rank / (6 + 1e-5)))
  })
})

describe('VeRA', () => {
  it('shares one A per input width and one B per output width among all layers', async () => {
    const { manifest, operations } = await importMade('vera')
    const shared = manifest.tensors.filter(({ name }) => name.startsWith('@shared'))
    expect(shared.map(({ name, shape }) => [name, shape])).toEqual([
      ['@shared::vera.A.32', [4, 32]],
      ['@shared::vera.A.48', [4, 48]],
      ['@shared::vera.B.16', [16, 4]],
      ['@shared::vera.B.32', [32, 4]],
    ])
    expect(lowRanks(operations).map(({ scale }) => scale)).toEqual(Array(6).fill('1'))
    const kept = manifest.origin!.keyMap.filter(({ key }) => /^base_model\.vera_[AB]$/.test(key))
    expect(kept).toEqual([
      { key: 'base_model.vera_A', tensor: '@shared::vera.A.48', transform: 'identity' },
      { key: 'base_model.vera_B', tensor: '@shared::vera.B.32', transform: 'identity' },
    ])
  })
})

describe('experts', () => {
  const byStack = (operations: LowRank[], stack: string) =>
    operations.filter((op) => op.site.startsWith(stack))

  it('are the same adapter by transformers 4 and, renamed and fused, by transformers 5', async () => {
    const four = await importMade('lora-experts-mixtral')
    const five = await importMade('lora-experts-mixtral-again-v5')
    expect(five.manifest.training).toMatchObject({ moduleNames: 'expert blocks of transformers 5' })
    const sites = lowRanks(four.operations)
      .map(({ site }) => site)
      .sort()
    expect(
      lowRanks(five.operations)
        .map(({ site }) => site)
        .sort(),
    ).toEqual(sites)
    for (const op of lowRanks(five.operations)) {
      const other = lowRanks(four.operations).find(({ site }) => site === op.site)!
      const [own, want] = [deltaOf(op, five.tensors), deltaOf(other, four.tensors)]
      expect(worstShare(own, want), op.site).toBeLessThan(LIMIT)
    }
  })

  it.each([
    [
      'lora-experts-mixtral-v5',
      'block_sparse_moe',
      { gate_up_proj: ['w1', 'w3'], down_proj: ['w2'] },
    ],
    [
      'lora-experts-qwen2-moe-v5',
      'mlp',
      { gate_up_proj: ['gate_proj', 'up_proj'], down_proj: ['down_proj'] },
    ],
  ])('%s: each of them takes its rows of the fused update', async (name, block, layers) => {
    const { operations, tensors } = await importMade(name)
    const want = expectedDeltas(name)
    const own = lowRanks(operations)
    expect(own).toHaveLength(10)
    for (const [parameter, parts] of Object.entries(layers)) {
      const fused = want.get(`model.layers.0.mlp.experts.${parameter}`)!.data
      const site = (e: number, part: string) => `model.layers.0.${block}.experts.${e}.${part}`
      const deltas = [0, 1, 2].flatMap((e) =>
        parts.flatMap((part) => [
          ...deltaOf(own.find((op) => op.site === site(e, part))!, tensors),
        ]),
      )
      expect(worstShare(deltas, fused)).toBeLessThan(LIMIT)
    }
  })

  it('of gpt-oss have A on their inputs, on whichever side the version of transformers put it', async () => {
    const shapes = async (name: string) => {
      const { operations, tensors } = await importMade(name)
      return byStack(lowRanks(operations), 'model.layers.0.mlp.experts').map((op) => [
        op.site.split('.').at(-1),
        op.experts,
        tensors.get(op.slots.A)!.shape,
        tensors.get(op.slots.B)!.shape,
      ])
    }
    expect(await shapes('lora-experts-gpt-oss')).toEqual([
      ['gate_up_proj', 3, [3, 4, 32], [3, 64, 4]],
      ['down_proj', 3, [3, 2, 32], [3, 32, 2]],
    ])
    expect(await shapes('lora-experts-gpt-oss-v5')).toEqual([
      ['gate_up_proj', 3, [3, 4, 32], [3, 64, 4]],
      ['down_proj', 3, [3, 4, 32], [3, 32, 4]],
    ])
  })
})

describe('names that transformers changed', () => {
  it.each([
    [
      'lora-qwen2-vl',
      ['model.layers.0.self_attn.q_proj', 'visual.blocks.0.attn.qkv'],
      ['model.language_model.layers.0.self_attn.q_proj', 'model.visual.blocks.0.attn.qkv'],
    ],
    [
      'lora-llava',
      [
        'language_model.lm_head',
        'language_model.model.layers.0.self_attn.q_proj',
        'vision_tower.vision_model.encoder.layers.0.self_attn.q_proj',
      ],
      [
        'lm_head',
        'model.language_model.layers.0.self_attn.q_proj',
        'model.vision_tower.vision_model.encoder.layers.0.self_attn.q_proj',
      ],
    ],
  ])('%s sits on the modules as the files call them', async (name, sites, inMemory) => {
    const { operations, tensors } = await importMade(name)
    const want = expectedDeltas(name)
    const own = lowRanks(operations)
    expect(own.map(({ site }) => site)).toEqual(sites)
    for (const [i, op] of own.entries())
      expect(worstShare(deltaOf(op, tensors), want.get(inMemory[i]!)!.data)).toBeLessThan(LIMIT)
  })
})

describe('what PEFT saves beside the method', () => {
  const replaced = async (name: string) => {
    const { operations } = await importMade(name)
    return operations
      .filter((op): op is Replace => op.op === 'replace')
      .map(({ site, param }) => `${site}.${param}`)
  }

  it('is the whole embedding or head where LoRA adapts it', async () => {
    expect(await replaced('lora-embedding')).toEqual(['model.embed_tokens.weight'])
    expect(await replaced('lora-head')).toEqual(['lm_head.weight'])
  })

  it('is both of a tied pair where ensure_weight_tying ties them, or the rows of both', async () => {
    const both = ['lm_head.weight', 'model.embed_tokens.weight']
    expect((await replaced('lora-embedding-tied')).sort()).toEqual(both)
    expect((await replaced('saved-tied')).sort()).toEqual(both)
    expect((await replaced('tokens-tied')).sort()).toEqual(both)
  })

  it('is rows of the head by themselves where they are others than the embedding has', async () => {
    const rowsOf = async (name: string) => {
      const { operations } = await importMade(name)
      return operations
        .filter((op): op is Replace => op.op === 'replace')
        .map(({ site, rows, slots }) => [site, rows, slots.value])
    }
    const [head, embedding] = ['lm_head', 'model.embed_tokens']
    expect(await rowsOf('tokens-apart')).toEqual([
      [head, [2, 9, 11], 'lm_head::tok.rows'],
      [embedding, [2, 9], 'model.embed_tokens::tok.rows'],
    ])
    expect(await rowsOf('tokens-apart-tied')).toEqual([
      [head, [2, 11], 'lm_head::tok.rows'],
      [embedding, [2, 9], 'model.embed_tokens::tok.rows'],
    ])
    expect(await rowsOf('tokens-alike-tied')).toEqual([
      [embedding, [2, 9], 'model.embed_tokens::tok.rows'],
      [head, [2, 9], 'model.embed_tokens::tok.rows'],
    ])
  })

  it('is what VeLoRA trained with, which no operation reads', async () => {
    const { manifest } = await importMade('velora')
    expect(manifest.tensors.filter(({ name }) => name.includes('velora'))).toEqual([])
    expect(manifest.origin!.literals!.map(({ shape }) => shape)).toEqual([[12], [8], [12], [8]])
  })

  it('is modules_to_save of prompts, prefixes and norms too', async () => {
    expect(await replaced('prompt-saved')).toEqual(['lm_head.weight'])
    expect(await replaced('prefix-saved')).toContain('model.norm.weight')
    expect(await replaced('norms')).toContain('lm_head.weight')
  })

  it('is the biases of adapted modules alone where the config says so', async () => {
    expect(await replaced('adalora')).toEqual(
      [0, 1].map((layer) => `model.layers.${layer}.self_attn.q_proj.bias`),
    )
    expect(await replaced('vera-bias')).toEqual([
      'model.layers.1.self_attn.q_proj.bias',
      'model.layers.1.self_attn.v_proj.bias',
    ])
  })
})

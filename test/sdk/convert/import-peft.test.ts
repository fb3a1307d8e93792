import { isSaved } from '@graft/convert/peft/targets.ts'
import type { Operation } from '@graft/sdk/format/operations.ts'
import { describe, expect, it } from 'vitest'
import {
  baseWeights,
  expectedOf,
  importFixture,
  sourceOf,
  tensorsOf,
  type Values,
} from './fixtures.ts'
import { applyLinear, at, lowRankDelta, rows } from './reference-maths.ts'

const Q0 = 'model.layers.0.self_attn.q_proj'
const Q1 = 'model.layers.1.self_attn.q_proj'
const K0 = 'model.layers.0.self_attn.k_proj'
const D0 = 'model.layers.0.mlp.down_proj'
const D1 = 'model.layers.1.mlp.down_proj'

async function imported(name: string) {
  const { manifest, safetensors, report } = await importFixture(name)
  const tensors = tensorsOf(safetensors)
  const slot = (tensor: string) => tensors.get(tensor)!.data
  return { manifest, tensors, report, slot, operations: manifest.operations }
}

const worst = (got: Float32Array, want: Float32Array): number =>
  got.length === want.length
    ? got.reduce((w, v, i) => Math.max(w, Math.abs(v - want[i]!)), 0)
    : Number.POSITIVE_INFINITY

/** Columns of the delta that the operation means, from unit vectors, against the peer's own matrix [out, in]. */
function deltaError(
  operations: Operation[],
  slot: (t: string) => Float32Array,
  site: string,
  peer: Values,
) {
  const op = at(operations, 'low_rank', site)
  const [out, inside] = peer.shape as [number, number]
  let error = 0
  for (let i = 0; i < inside; i++) {
    const unit = new Float32Array(inside)
    unit[i] = 1
    const column = lowRankDelta(op, slot, unit)
    const want = Float32Array.from({ length: out }, (_, o) => peer.data[o * inside + i]!)
    error = Math.max(error, worst(column, want))
  }
  return error
}

describe('LoRA from PEFT', () => {
  it.each([
    ['peft-lora', Q0, '2', 4],
    ['peft-lora', D1, '2', 4],
    ['peft-rslora', Q0, '4', 4],
    ['peft-lora-patterns', Q0, '1.25', 4],
    ['peft-lora-patterns', Q1, '0.8333333333333334', 6],
    ['peft-lora-patterns', D0, '1.5', 2],
    ['peft-lora-patterns', D1, '1.5', 2],
  ])(
    '%s at %s has the scale, rank and matrix that PEFT computes',
    async (name, site, scale, rank) => {
      const { operations, slot } = await imported(name)
      expect(at(operations, 'low_rank', site)).toMatchObject({ scale, rank })
      const peer = expectedOf(name).get(`delta.${site}`)!
      expect(deltaError(operations, slot, site, peer)).toBeLessThan(1e-6)
    },
  )

  it('reads a Conv1D base as the transpose that it is', async () => {
    const { operations, slot } = await imported('peft-lora-gpt2')
    const site = 'transformer.h.0.attn.c_attn'
    expect(at(operations, 'low_rank', site)).toMatchObject({ in: 32, out: 96 })
    const { shape, data } = expectedOf('peft-lora-gpt2').get(`delta.${site}`)!
    const [inside, out] = shape as [number, number]
    const turned = data.map((_, i) => data[(i % inside) * out + Math.floor(i / inside)]!)
    const peer = { shape: [out, inside], data: turned }
    expect(deltaError(operations, slot, site, peer)).toBeLessThan(1e-6)
  })

  it.each([
    ['peft-lora', 'low_rank', Q0],
    ['peft-lora-bias', 'low_rank', Q0],
    ['peft-lora-bias', 'low_rank', D1],
    ['peft-dora', 'magnitude', Q0],
    ['peft-dora', 'magnitude', D1],
    ['peft-ia3', 'scale', K0],
    ['peft-ia3', 'scale', D1],
  ] as const)(
    '%s: %s at %s answers what the adapted layer of PEFT answers',
    async (name, kind, site) => {
      const { operations, slot } = await imported(name)
      const peer = expectedOf(name)
      const base = baseWeights()
      const op = at(operations, kind, site)
      const want = rows(peer.get(`y.${site}`)!)
      for (const [i, x] of rows(peer.get(`x.${site}`)!).entries()) {
        const w = base.get(`${site}.weight`)!.data
        const y = applyLinear(op, slot, w, base.get(`${site}.bias`)?.data ?? null, x)
        expect(worst(y, want[i]!)).toBeLessThan(2e-5)
      }
    },
  )

  it('keeps half precision as it is stored', async () => {
    const { manifest } = await imported('peft-lora-f16')
    expect(new Set(manifest.tensors.map((t) => t.dtype))).toEqual(new Set(['F16']))
  })

  it('names tensors by module path and slot, and maps each source key to one', async () => {
    const { manifest } = await imported('peft-lora')
    expect(manifest.origin?.keyMap).toContainEqual({
      key: `base_model.model.${Q0}.lora_A.weight`,
      tensor: `${Q0}::lora.A`,
      transform: 'identity',
    })
    expect(manifest.origin?.keyMap).toHaveLength(8)
  })

  it('makes trained biases replacements, which with the update give what PEFT answers', async () => {
    const { operations, slot } = await imported('peft-bias-only')
    const replaced = at(operations, 'replace', Q0)
    expect(replaced).toMatchObject({ param: 'bias', shape: [32] })
    const peer = expectedOf('peft-bias-only')
    const w = baseWeights().get(`${Q0}.weight`)!.data
    const [x] = rows(peer.get(`x.${Q0}`)!)
    const [want] = rows(peer.get(`y.${Q0}`)!)
    const y = applyLinear(at(operations, 'low_rank', Q0), slot, w, slot(replaced.slots.value), x!)
    expect(worst(y, want!)).toBeLessThan(2e-5)
  })

  it('makes modules_to_save replacements of the whole tensor', async () => {
    const { operations, slot, manifest } = await imported('peft-modules-to-save')
    const head = at(operations, 'replace', 'lm_head')
    expect(head).toMatchObject({ param: 'weight', shape: [48, 32] })
    const source = tensorsOf(sourceOf('peft-modules-to-save').get('adapter_model.safetensors')!)
    expect(slot(head.slots.value)).toEqual(source.get('base_model.model.lm_head.weight')!.data)
    expect(manifest.method.flags).toEqual(['modules_to_save'])
  })

  it.each([
    [['norm'], 'model.layers.0.input_layernorm', true],
    [['norm'], 'model.norm', true],
    [['mlp'], 'model.layers.1.mlp.up_proj', true],
    [['o_proj'], 'model.layers.1.self_attn.q_proj', false],
    [['layer'], 'model.layers.0.self_attn', false],
    [[''], 'lm_head', false],
  ])('reads modules_to_save %j as PEFT does, by the end of %s: %s', (names, path, saved) => {
    expect(isSaved(names, path)).toBe(saved)
  })

  it('makes trainable tokens replacements of rows, in ascending order', async () => {
    const { operations } = await imported('peft-tokens')
    expect(at(operations, 'replace', 'model.embed_tokens')).toMatchObject({
      rows: [2, 9, 26],
      shape: [3, 32],
    })
  })
})

describe('token rows trained by themselves', () => {
  it('are replacements in ascending order, of the head too where it is tied', async () => {
    const plain = await imported('peft-trainable-tokens')
    expect(plain.operations).toMatchObject([
      { op: 'replace', site: 'model.embed_tokens', rows: [2, 9, 26], shape: [3, 32] },
    ])
    const { operations, slot } = await imported('peft-trainable-tokens-tied')
    const [embedding, head] = ['model.embed_tokens', 'lm_head'].map((site) =>
      at(operations, 'replace', site),
    )
    expect(operations).toHaveLength(2)
    expect(slot(head!.slots.value)).toEqual(slot(embedding!.slots.value))
  })
})

describe('tied embeddings', () => {
  it('get their new rows in the head too, as PEFT does, from one tensor', async () => {
    const { operations, slot } = await imported('peft-tokens-tied')
    const embedding = at(operations, 'replace', 'model.embed_tokens')
    const head = at(operations, 'replace', 'lm_head')
    expect(head).toEqual({ ...embedding, site: 'lm_head' })
    const peer = expectedOf('peft-tokens-tied').get('head')!
    expect(worst(slot(head.slots.value), peer.data)).toBeLessThan(1e-6)
  })
})

describe('prompt methods from PEFT', () => {
  it.each(['peft-prefix', 'peft-prefix-projected'])(
    '%s has the keys and values of the cache PEFT builds',
    async (name) => {
      const { operations, tensors } = await imported(name)
      for (const layer of [0, 1]) {
        const op = at(operations, 'prefix', `model.layers.${layer}.self_attn`)
        expect(op).toMatchObject({ kvHeads: 2, headDim: 8, virtualTokens: 3 })
        expect(tensors.get(op.slots.k)).toEqual(expectedOf(name).get(`k.${layer}`))
        expect(tensors.get(op.slots.v)).toEqual(expectedOf(name).get(`v.${layer}`))
      }
    },
  )

  it.each([
    ['peft-prompt', 'prompt'],
    ['peft-ptuning', 'p_tuning'],
  ])('%s has the embeddings that PEFT puts before the prompt', async (name, family) => {
    const { operations, tensors, report } = await imported(name)
    const op = at(operations, 'prompt', 'model.embed_tokens')
    expect(op).toMatchObject({ virtualTokens: 4, hidden: 32 })
    expect(tensors.get(op.slots.E)).toEqual(expectedOf(name).get('E'))
    expect(report.family).toBe(family)
  })

  it('makes LN tuning replacements of norms', async () => {
    const { operations } = await imported('peft-ln')
    expect(operations.map((op) => op.site).sort()).toEqual([
      'model.layers.0.input_layernorm',
      'model.layers.1.input_layernorm',
      'model.norm',
    ])
  })
})

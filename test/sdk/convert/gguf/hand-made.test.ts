import { describe, expect, it } from 'vitest'
import { importAdapterOf } from './helpers.ts'
import {
  f32Value,
  floats,
  gguf,
  type HandTensor,
  listValue,
  pair,
  text,
  textValue,
  UPDATE,
  u32Value,
  withKey,
  withoutKey,
} from './write-gguf.ts'

describe('norms of mergekit', () => {
  it.each([
    ['with two axes', { ne: [32, 2], data: floats(64) }, 'ERR_TENSOR_SHAPE', /a norm of one axis/],
    [
      'of more than a megabyte',
      { ne: [2 ** 18 + 1], data: new Uint8Array(2 ** 20 + 4) },
      'ERR_METHOD_UNSUPPORTED',
      /llama.cpp does not apply them/,
    ],
  ] as const)('%s are refused', async (_, norm, code, message) => {
    const tensors = [
      ...UPDATE,
      { name: 'blk.0.ffn_norm.weight', ne: [...norm.ne], data: norm.data },
    ]
    await expect(importAdapterOf(gguf({ tensors }))).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message),
    })
  })
})

describe('a GGUF that is read', () => {
  it('without alpha, or with an alpha of 0, is not scaled, as in llama.cpp', async () => {
    for (const file of [
      withoutKey('adapter.lora.alpha'),
      withKey('adapter.lora.alpha', f32Value(0)),
    ]) {
      const { report } = await importAdapterOf(gguf(file))
      expect(report).toMatchObject({ scales: ['1'], flags: ['no_alpha'], byteExact: true })
    }
  })

  it('may end with its last tensor, unpadded, may align by 64, and comes back so', async () => {
    const norm: HandTensor = { name: 'blk.0.attn_norm.weight', ne: [32], data: floats(32) }
    const odd = pair('blk.0.attn_v.weight', 32, 16, 3)
    for (const file of [
      { tensors: [...UPDATE, norm], unpadded: true },
      { tensors: [odd[1]!, norm, odd[0]!], unpadded: true },
      { ...withKey('general.alignment', u32Value(64)), tensors: odd, alignment: 64 },
    ]) {
      const { report } = await importAdapterOf(gguf(file))
      expect(report).toMatchObject({ byteExact: true })
    }
  })

  it("keeps mergekit's norms for the way back and says that, as in llama.cpp, they do nothing", async () => {
    const norm: HandTensor = { name: 'blk.0.attn_norm.weight', ne: [32], data: floats(32) }
    const { report, manifest } = await importAdapterOf(gguf({ tensors: [...UPDATE, norm] }))
    expect(report).toMatchObject({
      flags: ['norms_not_applied'],
      operations: { low_rank: 1 },
      byteExact: true,
    })
    expect(manifest.origin?.literals).toMatchObject([
      { key: 'blk.0.attn_norm.weight', dtype: 'F32', shape: [32] },
    ])
  })

  it('has texts for people that are kept and do nothing', async () => {
    const file = withKey('adapter.lora.prompt_prefix', textValue('Be brief. '))
    file.keys!.push(['general.base_model.0.repo_url', textValue('https://example.com')])
    file.keys!.push(['general.tags', listValue(8, text('a'), text('b'))])
    const { report } = await importAdapterOf(gguf(file))
    expect(report.inertKeys).toEqual([
      'adapter.lora.prompt_prefix',
      'general.base_model.0.repo_url',
      'general.tags',
    ])
    expect(report.byteExact).toBe(true)
  })
})

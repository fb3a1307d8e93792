import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseModelConfig } from '@graft/runner/checkpoint/model-config.ts'
import { type Checkpoint, readCheckpoint } from '@graft/runner/checkpoint/read-checkpoint.ts'
import { readSafetensors, writeSafetensors } from '@graft/sdk/format/safetensors.ts'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { TINY, writeTinyCheckpoint } from './tiny-checkpoint.ts'

const STORY = join(import.meta.dirname, '../../../../shared/data/bases/tinystories-656k')
const storyAbsent = !existsSync(STORY)
if (storyAbsent) console.warn('skipped: ../shared/data/bases/tinystories-656k is absent')

const LLAMA = {
  architectures: ['LlamaForCausalLM'],
  model_type: 'llama',
  vocab_size: 128,
  hidden_size: 64,
  intermediate_size: 96,
  num_hidden_layers: 2,
  num_attention_heads: 4,
}

describe('config.json', () => {
  test('fills what Llama leaves to its defaults', () => {
    expect(parseModelConfig(LLAMA)).toMatchObject({
      kvHeads: 4,
      headDim: 16,
      maxPositions: 2048,
      ropeTheta: 10_000,
      normEpsilon: 1e-6,
      tiedHead: false,
    })
  })

  test('reads rope_theta where transformers 5 writes it', () => {
    const rope_parameters = { rope_type: 'default', rope_theta: 500_000 }
    expect(parseModelConfig({ ...LLAMA, rope_parameters }).ropeTheta).toBe(500_000)
  })

  test.each<[string, Record<string, unknown>]>([
    ['architectures', { architectures: ['MambaForCausalLM'] }],
    ['architectures', { architectures: undefined }],
    ['model_type', { model_type: 'mistral' }],
    ['hidden_act', { hidden_act: 'gelu' }],
    ['attention_bias', { attention_bias: 'yes' }],
    ['mlp_bias', { mlp_bias: 1 }],
    ['rope_scaling', { rope_scaling: { rope_type: 'llama3', factor: 8 } }],
    ['rope_parameters', { rope_parameters: { rope_type: 'yarn', rope_theta: 1e4 } }],
    ['partial_rotary_factor', { rope_parameters: { partial_rotary_factor: 0.5 } }],
    ['quantization_config', { quantization_config: { quant_method: 'gptq' } }],
    ['sliding_window', { sliding_window: 4096 }],
  ])('refuses %s by name when it would change the maths: %j', (key, change) => {
    expect(() => parseModelConfig({ ...LLAMA, ...change })).toThrow(
      expect.objectContaining({
        code: 'ERR_ARCHITECTURE_UNSUPPORTED',
        message: expect.stringContaining(key),
      }),
    )
  })

  test.each<[string, Record<string, unknown>]>([
    ['hidden_size', { hidden_size: '64' }],
    ['num_hidden_layers', { num_hidden_layers: 0 }],
    ['head_dim', { num_attention_heads: 5 }],
    ['head_dim', { head_dim: 15 }],
    ['num_attention_heads', { num_key_value_heads: 3 }],
    ['rope_theta', { rope_theta: 'large' }],
    ['rms_norm_eps', { rms_norm_eps: -1 }],
  ])('refuses a %s that cannot be: %j', (key, change) => {
    expect(() => parseModelConfig({ ...LLAMA, ...change })).toThrow(
      expect.objectContaining({
        code: 'ERR_CHECKPOINT_INVALID',
        message: expect.stringContaining(key),
      }),
    )
  })
})

describe('weights', () => {
  let dir: string
  let remove: () => Promise<void>
  beforeEach(async () => {
    ;({ dir, remove } = await writeTinyCheckpoint())
  })
  afterEach(() => remove())
  const path = (name: string) => join(dir, name)
  const weights = async () =>
    readSafetensors(new Uint8Array(await readFile(path('model.safetensors'))))

  test.each([0, 7, 40, 5_000])('refuses a file cut to %i bytes and names it', async (size) => {
    const bytes = await readFile(path('model.safetensors'))
    await writeFile(path('model.safetensors'), bytes.subarray(0, size))
    await expect(readCheckpoint(dir)).rejects.toMatchObject({
      code: 'ERR_CHECKPOINT_INVALID',
      message: expect.stringContaining(path('model.safetensors')),
    })
  })

  test('refuses a folder without weights, without a config, and a config that is no JSON', async () => {
    await rm(path('model.safetensors'))
    const invalid = (name: string) => ({
      code: 'ERR_CHECKPOINT_INVALID',
      message: expect.stringContaining(path(name)),
    })
    await expect(readCheckpoint(dir)).rejects.toMatchObject(invalid('model.safetensors'))
    for (const text of ['{"architectures":', 'null', '[]']) {
      await writeFile(path('config.json'), text)
      await expect(readCheckpoint(dir)).rejects.toMatchObject(invalid('config.json'))
    }
    await rm(path('config.json'))
    await expect(readCheckpoint(dir)).rejects.toMatchObject(invalid('config.json'))
  })

  test('reads shards as it reads one file, and refuses when one is absent', async () => {
    const one = await readCheckpoint(dir)
    const { tensors } = await weights()
    const names = [...tensors.keys()]
    const shards = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'] as const
    const shardOf = (name: string) => shards[names.indexOf(name) % 2]!
    for (const shard of shards)
      await writeFile(
        path(shard),
        writeSafetensors(new Map([...tensors].filter(([name]) => shardOf(name) === shard))),
      )
    await writeFile(
      path('model.safetensors.index.json'),
      JSON.stringify({ weight_map: Object.fromEntries(names.map((n) => [n, shardOf(n)])) }),
    )
    const { vocab, hidden } = TINY
    const head = (checkpoint: Checkpoint) => checkpoint.f32('lm_head.weight', [vocab, hidden])
    const whole = head(one)
    await rm(path('model.safetensors'))
    expect(head(await readCheckpoint(dir))).toEqual(whole)
    expect(() => head(one)).toThrow(
      expect.objectContaining({
        code: 'ERR_CHECKPOINT_INVALID',
        message: expect.stringContaining('changed while it was in use'),
      }),
    )
    await rm(path(shards[1]))
    await expect(readCheckpoint(dir)).rejects.toMatchObject({
      code: 'ERR_CHECKPOINT_INVALID',
      message: expect.stringContaining(shards[1]),
    })
  })

  test('reads bf16 and f16 as the f32 numbers they stand for', async () => {
    const { tensors } = await weights()
    // 1, -2, the smallest subnormal, the largest finite number of each.
    const cases = [
      { dtype: 'F16', words: [0x3c00, 0xc000, 0x0001, 0x7bff], want: [1, -2, 2 ** -24, 65_504] },
      {
        dtype: 'BF16',
        words: [0x3f80, 0xc000, 0x0001, 0x7f7f],
        want: [1, -2, 2 ** -133, 255 * 2 ** 120],
      },
    ]
    for (const { dtype, words, want } of cases) {
      const data = new Uint8Array(Uint16Array.from(words).buffer)
      tensors.set('extra', { dtype, shape: [4], data })
      await writeFile(path('model.safetensors'), writeSafetensors(tensors))
      expect([...(await readCheckpoint(dir)).f32('extra', [4])]).toEqual(want)
    }
  })

  test('names the tensor that is absent or of another shape', async () => {
    const checkpoint = await readCheckpoint(dir)
    for (const [name, shape] of [
      ['model.layers.9.mlp.up_proj.weight', [96, 64]],
      ['model.norm.weight', [65]],
    ] as const)
      expect(() => checkpoint.f32(name, [...shape])).toThrow(
        expect.objectContaining({
          code: 'ERR_CHECKPOINT_INVALID',
          message: expect.stringContaining(name),
        }),
      )
  })

  test.skipIf(storyAbsent)(
    'finds the embedding of a base that stores its tied head alone',
    async () => {
      const checkpoint = await readCheckpoint(STORY)
      const { vocab, hidden } = checkpoint.config
      expect(checkpoint.f32('model.embed_tokens.weight', [vocab, hidden])).toEqual(
        checkpoint.f32('lm_head.weight', [vocab, hidden]),
      )
    },
  )
})

test('refuses a folder that is not there', async () => {
  const empty = await mkdtemp(join(tmpdir(), 'graft-empty-'))
  await rm(empty, { recursive: true })
  await expect(readCheckpoint(empty)).rejects.toMatchObject({ code: 'ERR_CHECKPOINT_INVALID' })
})

import { createHash } from 'node:crypto'
import { type BaseFiles, baseDigest, describeBase } from '@graft/sdk/format/base-identity.ts'
import { createBaseSites } from '@graft/sdk/format/base-sites.ts'
import type { Digest } from '@graft/sdk/format/digest.ts'
import { parseBaseIdentity } from '@graft/sdk/format/parse-manifest.ts'
import { writeSafetensors } from '@graft/sdk/format/safetensors.ts'
import { describe, expect, it } from 'vitest'
import { f32 } from './sample.ts'
import { hasData, readData } from './vectors.ts'

const sha = (bytes: Uint8Array | string): Digest =>
  `sha256:${createHash('sha256').update(bytes).digest('hex')}` as Digest
const encode = (value: unknown) => new TextEncoder().encode(JSON.stringify(value))
const CONFIG = encode({ architectures: ['LlamaForCausalLM'], model_type: 'llama' })
const file = (path: string, names: string[]): BaseFiles['files'][number] => {
  const bytes = writeSafetensors(new Map(names.map((name) => [name, f32([2, 3])])))
  return { path, size: bytes.length, sha256: sha(bytes), header: bytes }
}
const base = (files: BaseFiles['files'], configJson = CONFIG): BaseFiles => ({
  name: 'tiny',
  configJson,
  tokenizerJson: null,
  files,
})

describe('describeBase', () => {
  const FOLDER = 'bases/tinystories-656k'
  it.skipIf(!hasData(FOLDER))('describes a real checkpoint from its header alone', async () => {
    const bytes = readData(`${FOLDER}/model.safetensors`)
    const config = readData(`${FOLDER}/config.json`)
    const tokenizer = readData(`${FOLDER}/tokenizer.json`)
    const length = 8 + Number(new DataView(bytes.buffer).getBigUint64(0, true))
    const { digest, identity, tensors } = await describeBase({
      name: 'tinystories',
      configJson: config,
      tokenizerJson: tokenizer,
      files: [
        {
          path: 'model.safetensors',
          size: bytes.length,
          sha256: sha(bytes),
          header: bytes.subarray(0, length),
        },
      ],
    })
    const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, length)))
    delete header.__metadata__
    const lines = Object.entries<{ dtype: string; shape: number[] }>(header)
    const text = (dtypes: boolean) =>
      lines
        .map(([name, t]) => `${name}\t${dtypes ? `${t.dtype}\t` : ''}${t.shape.join(',')}\n`)
        .sort()
        .join('')
    expect(identity).toEqual({
      name: 'tinystories',
      architecture: 'LlamaForCausalLM',
      modelType: 'llama',
      files: [{ path: 'model.safetensors', size: bytes.length, sha256: sha(bytes) }],
      structure: sha(text(false)),
      structureWithDtype: sha(text(true)),
      configDigest: sha(config),
      tokenizerDigest: sha(tokenizer),
      quantization: null,
    })
    expect(tensors).toHaveLength(lines.length)
    expect(digest).toBe(await baseDigest(identity))
    expect(parseBaseIdentity(JSON.parse(JSON.stringify(identity)))).toEqual(identity)
  })

  it('gives sharded and single files one structure, and files in any order one digest', async () => {
    const one = await describeBase(base([file('model.safetensors', ['a', 'b', 'c'])]))
    const shards = [file('m-1.safetensors', ['a', 'c']), file('m-2.safetensors', ['b'])]
    const two = await describeBase(base(shards))
    expect(two.identity.structure).toBe(one.identity.structure)
    expect(two.digest).not.toBe(one.digest)
    expect((await describeBase(base(shards.reverse()))).digest).toBe(two.digest)
  })

  it('reads quantisation from the config', async () => {
    const config = encode({
      architectures: ['LlamaForCausalLM'],
      model_type: 'llama',
      quantization_config: { quant_method: 'gptq', bits: 4, group_size: 128 },
    })
    const { identity } = await describeBase(base([file('m.safetensors', ['a'])], config))
    expect(identity.quantization).toEqual({ method: 'gptq', bits: 4, group: 128 })
  })

  it.each<[string, BaseFiles]>([
    ['no weights', base([])],
    ['a tensor in two files', base([file('1.safetensors', ['a']), file('2.safetensors', ['a'])])],
    ['a config that is no object', base([file('1.safetensors', ['a'])], encode([]))],
    ['no architecture', base([file('1.safetensors', ['a'])], encode({ model_type: 'llama' }))],
  ])('refuses %s', (_, files) =>
    expect(describeBase(files)).rejects.toMatchObject({ code: 'ERR_CHECKPOINT_INVALID' }),
  )
})

describe('createBaseSites', () => {
  const tensor = (name: string, shape: number[]) => ({ name, dtype: 'F32', shape })

  it('sees linear layers in torch orientation, Conv1D families turned', () => {
    const rows = [tensor('h.0.attn.c_attn.weight', [4, 12])]
    expect(createBaseSites(rows, 'llama').linear('h.0.attn.c_attn')).toMatchObject({
      in: 12,
      out: 4,
    })
    expect(createBaseSites(rows, 'gpt2').linear('h.0.attn.c_attn')).toMatchObject({
      in: 4,
      out: 12,
    })
  })

  it('knows a tied head by the tensor that the files leave out, whichever of the two that is', () => {
    for (const name of ['model.embed_tokens.weight', 'lm_head.weight']) {
      const sites = createBaseSites([tensor(name, [16, 8])], 'llama')
      expect(sites.tiedHead).toBe('lm_head')
      expect(sites.shape('lm_head.weight')).toEqual([16, 8])
      expect(sites.shape('model.embed_tokens.weight')).toEqual([16, 8])
    }
  })

  it('finds a module by the name of its outermost class or of the class that saved it', () => {
    const sites = createBaseSites([tensor('h.0.attn.c_attn.weight', [4, 12])], 'gpt2')
    expect(sites.resolve('transformer.h.0.attn.c_attn')).toBe('h.0.attn.c_attn')
    expect(sites.resolve('h.0.attn.c_attn')).toBe('h.0.attn.c_attn')
    expect(sites.resolve('transformer.h.1.attn.c_attn')).toBeNull()
  })
})

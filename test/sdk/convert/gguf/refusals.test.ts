import { describe, expect, it } from 'vitest'
import { baseOf, ggufOf, importAdapterOf, importGguf } from './helpers.ts'
import {
  ADAPTER_KEYS,
  f32Value,
  floats,
  gguf,
  type HandFile,
  type HandTensor,
  join,
  listValue,
  pair,
  textValue,
  UPDATE,
  u8,
  u32,
  u32Value,
  u64,
  withKey,
  withoutKey,
} from './write-gguf.ts'

const [A, B] = UPDATE as [HandTensor, HandTensor]

type Case = [what: string, file: HandFile | Uint8Array, code: string, message: RegExp]

const ABUSE: Case[] = [
  [
    'a version 2',
    { version: 2, tensors: UPDATE },
    'ERR_CONFIG_INVALID',
    /version must be 3, got 2.*convert/,
  ],
  ['big-endian numbers', { version: 0x03000000 }, 'ERR_CONFIG_INVALID', /big-endian/],
  [
    '2^64 - 1 tensors',
    { tensorCount: -1n },
    'ERR_CONFIG_INVALID',
    /number of tensors must be below 2\^53/,
  ],
  [
    'a billion tensors',
    { tensorCount: 1e9 },
    'ERR_CONFIG_INVALID',
    /number of tensors must be at most \d+, as the file has room for/,
  ],
  ['a billion keys', { keyCount: 1e9 }, 'ERR_CONFIG_INVALID', /number of keys must be at most/],
  ['fewer keys than said', { keyCount: 5, tensors: UPDATE }, 'ERR_CONFIG_INVALID', /GGUF: /],
  ['an empty key', withKey('', u32Value(1)), 'ERR_CONFIG_INVALID', /key 4 is empty/],
  [
    'a key twice',
    { keys: [...ADAPTER_KEYS, ADAPTER_KEYS[0]!], tensors: UPDATE },
    'ERR_CONFIG_INVALID',
    /key general.architecture stands twice/,
  ],
  [
    'a key of 70,000 bytes',
    withKey('k'.repeat(70_000), u32Value(1)),
    'ERR_CONFIG_INVALID',
    /at most 65535 bytes long/,
  ],
  [
    'a value of type 13',
    withKey('general.tags', u32(13)),
    'ERR_CONFIG_INVALID',
    /key general.tags: type must be a value type of 0 to 12, got 13/,
  ],
  [
    'a list of lists',
    withKey('general.tags', listValue(9)),
    'ERR_CONFIG_INVALID',
    /lists of lists/,
  ],
  [
    'a list of 2^40 items',
    withKey('general.tags', join(u32(9), u32(4), u64(2 ** 40))),
    'ERR_CONFIG_INVALID',
    /number of items must be at most/,
  ],
  [
    'a text longer than the file',
    withKey('general.name', join(u32(8), u64(2 ** 40))),
    'ERR_CONFIG_INVALID',
    /general.name must be at most \d+ bytes long/,
  ],
  [
    'a text that is not UTF-8',
    withKey('general.name', join(u32(8), u64(2), u8(0xff), u8(0xfe))),
    'ERR_CONFIG_INVALID',
    /general.name must be UTF-8/,
  ],
  [
    'a boolean of 2',
    withKey('general.name', join(u32(7), u8(2))),
    'ERR_CONFIG_INVALID',
    /must be false \(0\) or true \(1\), got 2/,
  ],
  [
    'an alignment of 24',
    withKey('general.alignment', u32Value(24)),
    'ERR_CONFIG_INVALID',
    /general.alignment must be a uint32 power of two from 8 to 65536/,
  ],
  [
    'an alignment of 0',
    withKey('general.alignment', u32Value(0)),
    'ERR_CONFIG_INVALID',
    /general.alignment/,
  ],
  [
    'an alignment of 2 GB',
    withKey('general.alignment', u32Value(2 ** 31)),
    'ERR_CONFIG_INVALID',
    /general.alignment/,
  ],
  [
    'an alignment that is a text',
    withKey('general.alignment', textValue('32')),
    'ERR_CONFIG_INVALID',
    /general.alignment/,
  ],
  [
    'a tensor without a name',
    { tensors: [{ ...A, name: '' }] },
    'ERR_CONFIG_INVALID',
    /tensor 0 has no name/,
  ],
  [
    'a name of 65 bytes',
    { tensors: [{ ...A, name: 'n'.repeat(65) }] },
    'ERR_CONFIG_INVALID',
    /name of tensor 0 must be at most 64 bytes long, got 65/,
  ],
  ['a tensor twice', { tensors: [A, A] }, 'ERR_CONFIG_INVALID', /stands twice/],
  [
    'no dimensions',
    { tensors: [{ ...A, ne: [] }] },
    'ERR_CONFIG_INVALID',
    /dimensions must be 1 to 4, got 0/,
  ],
  [
    'five dimensions',
    { tensors: [{ ...A, ne: [1, 1, 1, 1, 1] }] },
    'ERR_CONFIG_INVALID',
    /dimensions must be 1 to 4, got 5/,
  ],
  [
    'an empty tensor',
    { tensors: [{ ...A, ne: [0, 2] }] },
    'ERR_CONFIG_INVALID',
    /elements must be at least one/,
  ],
  [
    '2^32 by 2^32 elements',
    { tensors: [{ ...A, ne: [2 ** 32, 2 ** 32] }] },
    'ERR_CONFIG_INVALID',
    /below 2\^53 bytes/,
  ],
  [
    'a negative dimension',
    { tensors: [{ ...A, ne: [-32n, 2] }] },
    'ERR_CONFIG_INVALID',
    /dimension 0 must be below 2\^53/,
  ],
  [
    'an unknown tensor type',
    { tensors: [{ ...A, type: 99 }] },
    'ERR_CONFIG_INVALID',
    /must be a tensor type of ggml, got 99/,
  ],
  [
    'a removed tensor type',
    { tensors: [{ ...A, type: 4 }] },
    'ERR_CONFIG_INVALID',
    /must be a tensor type of ggml, got 4/,
  ],
  [
    'rows that are no whole blocks',
    { tensors: [{ ...A, ne: [33, 2], type: 8 }] },
    'ERR_CONFIG_INVALID',
    /row must be a multiple of 32 elements, a block of Q8_0, got 33/,
  ],
  [
    'overlapping tensors',
    { tensors: [A, { ...B, offset: 0 }] },
    'ERR_CONFIG_INVALID',
    /overlaps the tensor before it: its offset must be 256, got 0/,
  ],
  [
    'a gap between tensors',
    { tensors: [A, { ...B, offset: 512 }] },
    'ERR_CONFIG_INVALID',
    /leaves a gap before it/,
  ],
  [
    'an offset off the alignment',
    { tensors: [{ ...A, offset: 1 }] },
    'ERR_CONFIG_INVALID',
    /leaves a gap before it/,
  ],
  [
    'data that was cut off',
    gguf({ tensors: UPDATE }).slice(0, -40),
    'ERR_CONFIG_INVALID',
    /it was cut off/,
  ],
  [
    'bytes after the last tensor',
    { tensors: UPDATE, tail: new Uint8Array(64) },
    'ERR_CONFIG_INVALID',
    /64 bytes follow the last tensor/,
  ],
]

const MEANING: Case[] = [
  [
    'a model',
    {
      keys: [
        ['general.architecture', textValue('llama')],
        ['general.type', textValue('model')],
      ],
      tensors: [A],
    },
    'ERR_SOURCE_UNKNOWN',
    /lora.gguf is a GGUF model of llama, not an adapter/,
  ],
  [
    'a control vector',
    {
      keys: [
        ['general.architecture', textValue('controlvector')],
        ['general.type', textValue('cvector')],
      ],
      tensors: [A],
    },
    'ERR_SOURCE_UNKNOWN',
    /a GGUF of type cvector/,
  ],
  [
    'another kind of adapter',
    withKey('adapter.type', textValue('ia3')),
    'ERR_METHOD_UNSUPPORTED',
    /adapter.type must be "lora", got "ia3"/,
  ],
  [
    'a type that is a number',
    withKey('general.type', u32Value(1)),
    'ERR_CONFIG_INVALID',
    /general.type must be a string, got "uint32"/,
  ],
  [
    'aLoRA',
    withKey('adapter.alora.invocation_tokens', listValue(4, u32(1))),
    'ERR_METHOD_UNSUPPORTED',
    /only after these tokens \(aLoRA\)/,
  ],
  [
    'a key of nobody',
    withKey('adapter.lora.scale', f32Value(2)),
    'ERR_CONFIG_UNKNOWN_KEY',
    /key adapter.lora.scale/,
  ],
  [
    'no architecture',
    withoutKey('general.architecture'),
    'ERR_CONFIG_INVALID',
    /general.architecture must be present/,
  ],
  [
    'another architecture',
    withKey('general.architecture', textValue('qwen2')),
    'ERR_BASE_MISMATCH',
    /the adapter is for llama.cpp's qwen2.*the base is llama/,
  ],
  [
    'an architecture that nobody knows',
    withKey('general.architecture', textValue('mamba')),
    'ERR_ARCHITECTURE_UNSUPPORTED',
    /general.architecture must be one of llama, /,
  ],
  [
    'an alpha that is infinite',
    withKey('adapter.lora.alpha', f32Value(Number.POSITIVE_INFINITY)),
    'ERR_CONFIG_INVALID',
    /adapter.lora.alpha must be a finite number/,
  ],
  [
    'an alpha that is an integer',
    withKey('adapter.lora.alpha', u32Value(4)),
    'ERR_CONFIG_INVALID',
    /adapter.lora.alpha must be a float32/,
  ],
  [
    'lora_a alone',
    { tensors: [A] },
    'ERR_TENSOR_MISSING',
    /tensor blk.0.attn_v.weight.lora_b is absent/,
  ],
  [
    'lora_b alone',
    { tensors: [B] },
    'ERR_TENSOR_MISSING',
    /tensor blk.0.attn_v.weight.lora_a is absent/,
  ],
  [
    'a tensor that is neither',
    { tensors: [...UPDATE, { ...A, name: 'blk.0.attn_v.weight' }] },
    'ERR_TENSOR_UNMATCHED',
    /to end in .lora_a or .lora_b/,
  ],
  [
    'ranks that differ',
    { tensors: [A, { ...B, ne: [1, 16], data: floats(16) }] },
    'ERR_TENSOR_SHAPE',
    /lora_a must be \[1,32\] for this base/,
  ],
  [
    'another width',
    { tensors: pair('blk.0.attn_v.weight', 64, 16, 2) },
    'ERR_TENSOR_SHAPE',
    /made for another base/,
  ],
  [
    'a layer too many',
    { tensors: pair('blk.7.attn_v.weight', 32, 16, 2) },
    'ERR_TENSOR_UNMATCHED',
    /model.layers.7.self_attn.v_proj, which the base does not have/,
  ],
  [
    'a module of no base',
    { tensors: pair('blk.0.ssm_in.weight', 32, 16, 2) },
    'ERR_TENSOR_UNMATCHED',
    /the base has no such module/,
  ],
  [
    'q, k and v in one',
    { tensors: pair('blk.0.attn_qkv.weight', 32, 64, 2) },
    'ERR_TENSOR_UNMATCHED',
    /--fuse-qkv/,
  ],
  [
    'experts',
    { tensors: pair('blk.0.ffn_up_exps.weight', 32, 48, 2) },
    'ERR_TENSOR_UNMATCHED',
    /a stack of experts/,
  ],
  [
    'factors of three dimensions',
    { tensors: [A, { ...B, ne: [2, 8, 2] }] },
    'ERR_METHOD_UNSUPPORTED',
    /stacked experts/,
  ],
  [
    'a type of models',
    { tensors: [{ ...A, ne: [32, 2], type: 2, data: new Uint8Array(36) }, B] },
    'ERR_METHOD_UNSUPPORTED',
    /type must be F32, F16, BF16 or Q8_0, got "Q4_0"; convert the adapter again with --outtype f32/,
  ],
  [
    'weights that are not finite',
    {
      tensors: [
        A,
        { ...B, data: new Uint8Array(Float32Array.from({ length: 32 }, () => Number.NaN).buffer) },
      ],
    },
    'ERR_WEIGHTS_NON_FINITE',
    /finite/,
  ],
  [
    'an update of zeros',
    { tensors: [A, { ...B, data: new Uint8Array(128) }] },
    'ERR_ZERO_EFFECT',
    /none of the 1 operations/,
  ],
]

const bytesOf = (file: HandFile | Uint8Array): Uint8Array =>
  file instanceof Uint8Array ? file : gguf(file)

describe('a GGUF that is damaged or forged', () => {
  it.each(ABUSE)('with %s is refused', async (_, file, code, message) => {
    await expect(importAdapterOf(bytesOf(file))).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message),
    })
  })

  it('with something in the padding is refused, for it would not come back', async () => {
    const norm: HandTensor = { name: 'blk.0.attn_norm.weight', ne: [33], data: floats(33) }
    const bytes = gguf({ tensors: [norm, ...UPDATE] })
    const data = 256 + 128
    bytes[bytes.length - data - 1] = 1
    await expect(importAdapterOf(bytes)).rejects.toMatchObject({
      code: 'ERR_CONFIG_INVALID',
      message: 'GGUF: the padding after tensor "blk.0.attn_norm.weight" must be zeros',
    })
  })

  it('is refused wherever it is cut, and never accepted', async () => {
    const bytes = gguf({ tensors: UPDATE })
    for (let size = 4; size < bytes.length; size++)
      await expect(importAdapterOf(bytes.slice(0, size))).rejects.toMatchObject({
        code: 'ERR_CONFIG_INVALID',
      })
  })
})

describe('a GGUF that means something else', () => {
  it.each(MEANING)('%s is refused by name', async (_, file, code, message) => {
    await expect(importAdapterOf(bytesOf(file))).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message),
    })
  })

  it('what the converter makes of GPT-2 is refused with the way out, as llama.cpp refuses it', async () => {
    await expect(importGguf(ggufOf('gpt2'), await baseOf('gpt2'))).rejects.toMatchObject({
      code: 'ERR_TENSOR_SHAPE',
      message: expect.stringMatching(/factors are turned over.*import the PEFT folder/),
    })
  })

  it('q without the head counts of the base is refused with what to give', async () => {
    const bytes = gguf({ tensors: pair('blk.0.attn_q.weight', 32, 32, 2) })
    await expect(importAdapterOf(bytes, (base) => delete base.config)).rejects.toMatchObject({
      code: 'ERR_REQUEST_INVALID',
      message: expect.stringMatching(/blk.0.attn_q.weight .*--base/),
    })
    await expect(
      importAdapterOf(bytes, (base) => (base.config = { num_attention_heads: 3 })),
    ).rejects.toMatchObject({ code: 'ERR_TENSOR_SHAPE' })
    await expect(importAdapterOf(bytes, (base) => (base.config = {}))).rejects.toMatchObject({
      code: 'ERR_CHECKPOINT_INVALID',
    })
  })
})

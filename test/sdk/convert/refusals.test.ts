import { readConfig } from '@graft/convert/config-keys.ts'
import { detectSource } from '@graft/convert/detect-source.ts'
import { byPattern } from '@graft/convert/peft/patterns.ts'
import { fullMatch, suffixMatch } from '@graft/convert/peft/python-pattern.ts'
import { pickled } from '@graft/convert/pickle.ts'
import { heldBytes } from '@graft/sdk/format/byte-source.ts'
import { readSafetensors, type Tensor, writeSafetensors } from '@graft/sdk/format/safetensors.ts'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { codeOf } from '../format/vectors.ts'
import { fixtureBase, importFixture, sourceOf, withConfig } from './fixtures.ts'

const encode = (value: unknown) => new TextEncoder().encode(JSON.stringify(value))
const WEIGHTS = 'adapter_model.safetensors'

/** Changes the tensors of the source. */
const withTensors =
  (change: (tensors: Map<string, Tensor>) => void) => (files: Map<string, Uint8Array>) => {
    const { tensors, metadata } = readSafetensors(files.get(WEIGHTS)!)
    change(tensors)
    files.set(WEIGHTS, writeSafetensors(tensors, metadata))
  }
const firstKey = (tensors: Map<string, Tensor>, end: string): string =>
  [...tensors.keys()].find((key) => key.endsWith(end))!

describe('detectSource', () => {
  const peft = encode({ peft_type: 'LORA' })
  const weights = writeSafetensors(new Map())

  const detect = (entries: Iterable<readonly [string, Uint8Array]>) =>
    detectSource(new Map([...entries].map(([path, bytes]) => [path, heldBytes(bytes)])))

  it('tells the tools that share a file name apart by content', async () => {
    const files = new Map([
      ['adapter_config.json', peft],
      [WEIGHTS, weights],
    ])
    expect(await detect(files)).toMatchObject({
      source: { format: 'peft' },
      detected: { weightsPath: WEIGHTS },
    })
    files.set('adapter_config.json', encode({ config: {}, model_type: 'llama' }))
    files.set('adapter.safetensors', weights)
    expect(await detect(files)).toMatchObject({ source: { format: 'adapters' } })
  })

  it('finds an adapter saved under its name', async () => {
    const files = new Map([
      ['sql/adapter_config.json', peft],
      [`sql/${WEIGHTS}`, weights],
    ])
    expect(await detect(files)).toMatchObject({ detected: { weightsPath: `sql/${WEIGHTS}` } })
  })

  it.each<[string, [string, Uint8Array][], string, string]>([
    [
      'no config',
      [[WEIGHTS, weights]],
      'ERR_SOURCE_UNKNOWN',
      'is a safetensors file without tensors',
    ],
    [
      'two adapters',
      [
        ['a/adapter_config.json', peft],
        ['b/adapter_config.json', peft],
      ],
      'ERR_SOURCE_UNKNOWN',
      'one folder at a time',
    ],
    ['no weights', [['adapter_config.json', peft]], 'ERR_SOURCE_UNKNOWN', 'absent'],
    [
      'a pickle',
      [
        ['adapter_config.json', peft],
        ['adapter_model.bin', new Uint8Array()],
      ],
      'ERR_PICKLE_REFUSED',
      'save_pretrained',
    ],
    [
      'a pickle that is called safetensors',
      [
        ['adapter_config.json', peft],
        [WEIGHTS, Uint8Array.of(0x50, 0x4b, 3, 4)],
      ],
      'ERR_PICKLE_REFUSED',
      'pickle',
    ],
    [
      'a config with a duplicate key',
      [['adapter_config.json', new TextEncoder().encode('{"r":1,"r":2}')]],
      'ERR_CONFIG_INVALID',
      'character',
    ],
    [
      'a config that is no object',
      [['adapter_config.json', encode([])]],
      'ERR_CONFIG_INVALID',
      'object',
    ],
  ])('refuses %s', async (_, entries, code, reason) => {
    await expect(detect(entries)).rejects.toMatchObject({ code })
    await expect(detect(entries)).rejects.toThrow(reason)
  })
})

describe('importAdapter refuses', () => {
  it.each<[string, Record<string, unknown>, string, string]>([
    ['an unknown key', { lora_gamma: 2 }, 'ERR_CONFIG_UNKNOWN_KEY', '"lora_gamma"'],
    [
      'an unknown key even when unset',
      { lora_gamma: null },
      'ERR_CONFIG_UNKNOWN_KEY',
      '"lora_gamma"',
    ],
    ['a key of the prototype', { toString: 1 }, 'ERR_CONFIG_UNKNOWN_KEY', '"toString"'],
    ['another method', { peft_type: 'HRA' }, 'ERR_METHOD_UNSUPPORTED', 'HRA'],
    ['an unknown method', { peft_type: 'constructor' }, 'ERR_METHOD_UNSUPPORTED', 'constructor'],
    [
      'aLoRA',
      { alora_invocation_tokens: [1] },
      'ERR_METHOD_UNSUPPORTED',
      'alora_invocation_tokens',
    ],
    ['QALoRA', { use_qalora: true }, 'ERR_METHOD_UNSUPPORTED', 'use_qalora'],
    [
      'replicated layers',
      { layer_replication: [[0, 2]] },
      'ERR_METHOD_UNSUPPORTED',
      'layer_replication',
    ],
    [
      'parameters that the base does not have',
      { target_parameters: ['experts.w1'] },
      'ERR_TENSOR_MISSING',
      'target_parameters names experts.w1',
    ],
    ['KaSA', { kasa_config: { beta: 1 } }, 'ERR_BASE_MUTATED', 'kasa_config'],
    [
      'PiSSA',
      { init_lora_weights: 'pissa' },
      'ERR_BASE_MUTATED',
      'path_initial_model_for_weight_conversion',
    ],
    [
      'PiSSA by iteration',
      { init_lora_weights: 'pissa_niter_16' },
      'ERR_BASE_MUTATED',
      'pissa_niter_16',
    ],
    ['OLoRA', { init_lora_weights: 'olora' }, 'ERR_BASE_MUTATED', 'olora'],
    ['CorDA', { init_lora_weights: 'corda' }, 'ERR_BASE_MUTATED', 'corda'],
    ['LoRA-GA', { init_lora_weights: 'lora_ga' }, 'ERR_BASE_MUTATED', 'lora_ga'],
    ['LoftQ', { init_lora_weights: 'loftq' }, 'ERR_BASE_MUTATED', 'quantised'],
    ['an unknown initialisation', { init_lora_weights: 'magic' }, 'ERR_CONFIG_INVALID', 'magic'],
    ['a rank the weights do not have', { r: 8 }, 'ERR_TENSOR_SHAPE', '8 as the config says'],
    ['a rank that is no number', { r: '4' }, 'ERR_CONFIG_INVALID', 'r must be'],
    ['an alpha that is no number', { lora_alpha: '8' }, 'ERR_CONFIG_INVALID', 'lora_alpha'],
    ['an alpha beyond use', { lora_alpha: 1e300 }, 'ERR_CONFIG_INVALID', 'usual magnitude'],
    ['DoRA without magnitudes', { use_dora: true }, 'ERR_TENSOR_MISSING', 'lora_magnitude_vector'],
    ['biases that are absent', { lora_bias: true }, 'ERR_TENSOR_MISSING', 'lora_B.bias'],
    [
      'weights of modules that are no targets',
      { target_modules: ['v_proj'] },
      'ERR_CONFIG_INVALID',
      'two adapters',
    ],
    [
      'targets without weights',
      { target_modules: ['q_proj', 'down_proj', 'o_proj'] },
      'ERR_TENSOR_MISSING',
      'o_proj',
    ],
    ['layers without weights', { layers_to_transform: [0] }, 'ERR_CONFIG_INVALID', 'layers.1'],
    ['alpha zero everywhere', { lora_alpha: 0 }, 'ERR_ZERO_EFFECT', 'none of the 4'],
    [
      'a pattern of exponential time',
      { rank_pattern: { '(a+)+b': 2 } },
      'ERR_METHOD_UNSUPPORTED',
      '(a+)+b',
    ],
  ])('%s', async (_, changes, code, reason) => {
    await expect(importFixture('peft-lora', withConfig(changes))).rejects.toMatchObject({
      code,
      message: expect.stringContaining(reason),
    })
  })

  it('explains the targets that it does accept: patterns, all-linear, layers', async () => {
    for (const changes of [
      { target_modules: String.raw`.*\.(q_proj|down_proj)` },
      { layers_to_transform: [0, 1] },
      { exclude_modules: ['v_proj'] },
    ])
      await expect(importFixture('peft-lora', withConfig(changes))).resolves.toBeDefined()
  })

  it.each<[string, (tensors: Map<string, Tensor>) => void, string, string]>([
    [
      'a tensor of a module the base does not have',
      (t) =>
        t.set(
          'base_model.model.model.layers.7.mlp.down_proj.lora_A.weight',
          t.get(firstKey(t, 'down_proj.lora_A.weight'))!,
        ),
      'ERR_TENSOR_UNMATCHED',
      'layers.7',
    ],
    [
      'keys without the prefix',
      (t) => t.set('model.layers.0.x.weight', t.get(firstKey(t, 'lora_A.weight'))!),
      'ERR_TENSOR_UNMATCHED',
      'base_model.model.',
    ],
    [
      'an A without its B',
      (t) => t.delete(firstKey(t, 'lora_B.weight')),
      'ERR_TENSOR_MISSING',
      'no lora_B',
    ],
    [
      'a whole module that the config does not save',
      (t) =>
        t.set('base_model.model.model.norm.weight', {
          dtype: 'F32',
          shape: [32],
          data: new Uint8Array(128),
        }),
      'ERR_TENSOR_UNMATCHED',
      'model.norm.weight',
    ],
    [
      'a magnitude that the config does not mention',
      (t) =>
        t.set('base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector', {
          dtype: 'F32',
          shape: [32],
          data: new Uint8Array(128),
        }),
      'ERR_TENSOR_UNMATCHED',
      'use_dora',
    ],
    [
      'half a LoRA on the embedding',
      (t) =>
        t.set('base_model.model.model.embed_tokens.lora_embedding_A', {
          dtype: 'F32',
          shape: [1],
          data: new Uint8Array(4),
        }),
      'ERR_TENSOR_MISSING',
      'no lora_B',
    ],
    [
      'a resized vocabulary',
      (t) =>
        t.set('base_model.model.lm_head.weight', {
          dtype: 'F32',
          shape: [49, 32],
          data: new Uint8Array(49 * 128),
        }),
      'ERR_TENSOR_SHAPE',
      'resized vocabulary',
    ],
    [
      'a value that is not finite',
      (t) => {
        const data = t.get(firstKey(t, 'lora_A.weight'))!.data
        new DataView(data.buffer, data.byteOffset).setFloat32(0, Number.NaN, true)
      },
      'ERR_WEIGHTS_NON_FINITE',
      'element 0',
    ],
    [
      'a dtype of no weights',
      (t) => {
        const key = firstKey(t, 'q_proj.lora_A.weight')
        const { shape, data } = t.get(key)!
        t.set(key, { dtype: 'I8', shape, data: data.slice(0, data.length / 4) })
      },
      'ERR_SAFETENSORS_INVALID',
      'q_proj::lora.A must be F32, F16, BF16 or F64, got "I8"; save it',
    ],
    [
      'an untrained adapter',
      (t) => {
        for (const [key, { data }] of t) if (key.includes('lora_B')) data.fill(0)
      },
      'ERR_ZERO_EFFECT',
      'before training',
    ],
  ])('%s', async (_, change, code, reason) => {
    await expect(importFixture('peft-lora', withTensors(change))).rejects.toMatchObject({
      code,
      message: expect.stringContaining(reason),
    })
  })

  it('an adapter of another base', async () => {
    const base = await fixtureBase('base-gpt2')
    await expect(importFixture('peft-lora', undefined, { base })).rejects.toMatchObject({
      code: 'ERR_TENSOR_UNMATCHED',
      message: expect.stringContaining('another base'),
    })
  })

  it('a name, a version that are none', async () => {
    for (const change of [{ name: 'sql' }, { version: '1' }])
      await expect(importFixture('peft-lora', undefined, change)).rejects.toMatchObject({
        code: 'ERR_MANIFEST_INVALID',
      })
  })

  it('prompt methods of other sizes than the base', async () => {
    for (const [name, changes] of [
      ['peft-prefix', { num_layers: 4 }],
      ['peft-prompt', { num_virtual_tokens: 5 }],
      ['peft-prompt', { token_dim: 16 }],
    ] as const)
      await expect(importFixture(name, withConfig(changes))).rejects.toMatchObject({
        code: 'ERR_TENSOR_SHAPE',
      })
  })

  it('nothing that PEFT itself wrote: every fixture says which keys are inert', async () => {
    const { report } = await importFixture('peft-lora')
    expect(report.inertKeys).toContain('lora_dropout')
    expect(report.inertKeys).not.toContain('lora_alpha')
    expect(sourceOf('peft-lora').size).toBe(2)
  })
})

describe('any config', () => {
  it.each([
    'peft-lora-patterns',
    'peft-tokens',
    'peft-ia3',
    'peft-prefix',
    'peft-prompt',
    'ah-norms',
  ])(
    'of %s is read or refused with a code, whatever value stands under whatever key',
    async (name) => {
      const config = JSON.parse(new TextDecoder().decode(sourceOf(name).get('adapter_config.json')))
      const inside = name.startsWith('ah') ? 'config' : undefined
      const keys = Object.keys(inside === undefined ? config : config[inside])
      const value = fc.oneof(
        fc.jsonValue({ maxDepth: 2 }),
        fc.constantFrom(0, -1, 1e300, '', 'q_proj', '.*', [null], [-1], { q_proj: -1 }, { '0': 0 }),
      )
      await fc.assert(
        fc.asyncProperty(fc.constantFrom(...keys), value, async (key, v) => {
          const edit = withConfig({ [key]: v }, inside)
          const code = await importFixture(name, edit).then(
            () => 'accepted',
            (e) => e.code ?? `crash: ${e.stack}`,
          )
          expect(code).toMatch(/^(accepted|ERR_[A-Z_]+)$/)
          expect(code).not.toBe('ERR_MANIFEST_INVALID')
        }),
        { numRuns: 150 },
      )
    },
  )
})

describe('a pickle', () => {
  it('is told how to become safetensors, in a line that a shell reads as it stands', () => {
    expect(pickled('pytorch_model_head.bin').message).toContain('"model_head.safetensors"')
    expect(pickled('pytorch_adapter.bin').message).toContain('"adapter.safetensors"')
    expect(pickled('adapter_model.bin').message).toContain('"adapter_model.safetensors"')
    const hostile = pickled(`a'; touch owned; '.bin`).message
    expect(hostile.slice(hostile.indexOf('python -c'))).not.toContain('owned')
  })
})

describe('patterns', () => {
  it('match as PEFT does: whole, or at the end of the path after a dot', () => {
    const path = 'model.layers.10.mlp.down_proj'
    expect(fullMatch(String.raw`.*\.mlp\.(up|down)_proj`).test(path)).toBe(true)
    expect(fullMatch('down_proj').test(path)).toBe(false)
    expect(suffixMatch('down_proj').test(path)).toBe(true)
    expect(suffixMatch('own_proj').test(path)).toBe(false)
    expect(suffixMatch(String.raw`layers\.1\d\.mlp\.down_proj`).test(path)).toBe(true)
    expect(suffixMatch('^down_proj').test(path)).toBe(false)
  })

  // re.match(r'(.*\.)?([]d]own_proj)$', path) and re.match(r'(.*\.)?([^]u]own_proj)$', path) of Python find both.
  it('hold a bracket that opens a set as its member, as Python does', () => {
    const path = 'model.layers.10.mlp.down_proj'
    expect(suffixMatch('[]d]own_proj').test(path)).toBe(true)
    expect(suffixMatch('[^]u]own_proj').test(path)).toBe(true)
    expect(suffixMatch('[^]d]own_proj').test(path)).toBe(false)
  })

  it('of which several match are refused where JSON loses which key came first', () => {
    const read = (alpha_pattern: Record<string, number>) =>
      byPattern(readConfig({ alpha_pattern }, 'adapter_config.json'), 'alpha_pattern', 8)
    expect(codeOf(() => read({ '.*': 5, '0': 3 })('to_out.0'))).toBe('ERR_CONFIG_INVALID')
    expect(read({ '.*': 5, '0': 3 })('to_out.1')).toBe(5)
    expect(read({ '.*': 3, '0': 3 })('to_out.0')).toBe(3)
    expect(read({ '.*': 5, to_out: 3 })('to_out')).toBe(5)
  })

  it.each([
    '(a+)+',
    '(a|b*)*',
    '(a|aa)*',
    '((a|b)c)+',
    '(?P<x>a)',
    '(?i)a',
    'a)',
    '(a',
    '\\A',
    'x*y*z*w*v*',
    '[',
    '(?<=a)b',
    '[\\x61]',
  ])('of the form %s are refused: they mean another thing here, or take too long', (pattern) =>
    expect(codeOf(() => fullMatch(pattern))).toBe('ERR_METHOD_UNSUPPORTED'),
  )
})

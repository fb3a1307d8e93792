import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { importAdapter } from '@graft/convert/import-adapter.ts'
import { readSafetensors, type Tensor, writeSafetensors } from '@graft/sdk/format/safetensors.ts'
import { describe, expect, it } from 'vitest'
import { withConfig } from '../fixtures.ts'
import { baseNamed, FIXTURES, folderOf, importMade } from './low-rank.ts'

type Edit = (files: Map<string, Uint8Array>) => void
const WEIGHTS = 'adapter_model.safetensors'

const withTensors =
  (change: (tensors: Map<string, Tensor>) => void): Edit =>
  (files) => {
    const { tensors, metadata } = readSafetensors(files.get(WEIGHTS)!)
    change(tensors)
    files.set(WEIGHTS, writeSafetensors(tensors, metadata))
  }
const both =
  (...edits: Edit[]): Edit =>
  (files) => {
    for (const edit of edits) edit(files)
  }
const find = (tensors: Map<string, Tensor>, part: string): string =>
  [...tensors.keys()].find((key) => key.includes(part))!
const drop = (part: string) => withTensors((tensors) => tensors.delete(find(tensors, part)))
const reshape = (part: string, change: (shape: number[]) => number[]) =>
  withTensors((tensors) => {
    const key = find(tensors, part)
    const { dtype, shape } = tensors.get(key)!
    const own = change(shape)
    const data = new Uint8Array(own.reduce((n, dim) => n * dim, 4)).fill(1)
    tensors.set(key, { dtype, shape: own, data })
  })

const refuses = (name: string, edit: Edit, code: string, message: RegExp | string) =>
  expect(importMade(name, edit)).rejects.toMatchObject({
    code,
    message:
      typeof message === 'string'
        ? expect.stringContaining(message)
        : expect.stringMatching(message),
  })

describe('every type of adapter that PEFT knows', () => {
  const TYPES = JSON.parse(readFileSync(join(FIXTURES, 'peft-types.json'), 'utf8')) as string[]
  const COMPILED = [
    ...['LORA', 'ADALORA', 'VERA', 'IA3', 'LOHA', 'LOKR', 'OFT', 'BOFT', 'FOURIERFT', 'LN_TUNING'],
    ...['TRAINABLE_TOKENS', 'PREFIX_TUNING', 'PROMPT_TUNING', 'P_TUNING'],
  ]

  it('is compiled to operations, or refused by name with a reason and a way out', async () => {
    expect(TYPES).toHaveLength(45)
    expect(TYPES).toEqual(expect.arrayContaining(COMPILED))
    for (const type of TYPES) {
      const edit = withConfig({ peft_type: type })
      const said = await importMade('lora-gaussian', edit).then(
        () => '',
        (e: Error) => e.message,
      )
      if (COMPILED.includes(type)) expect(said, type).not.toMatch(/peft_type/)
      else
        expect(said, type).toMatch(
          new RegExp(
            `^adapter_config.json: peft_type ${type} is not supported: .{12,}\\. (Approximate|Merge|Train|Publish) .{20,}`,
          ),
        )
    }
  })

  it('has its own message for the old name of one, and for what PEFT does not know', async () => {
    const as = (peft_type: string) => withConfig({ peft_type })
    await refuses('vera', as('BONE'), 'ERR_METHOD_UNSUPPORTED', 'old name of MISS')
    await refuses(
      'vera',
      as('MAGIC'),
      'ERR_METHOD_UNSUPPORTED',
      'MAGIC is not known; supported are',
    )
  })
})

describe('an initialisation that changed the base', () => {
  it('is refused as PEFT wrote it, with the lines that convert it', async () => {
    await refuses(
      'pissa',
      () => {},
      'ERR_BASE_MUTATED',
      'model.peft_config["default"].init_lora_weights = True; model.save_pretrained("./start"); after it, model.save_pretrained("out", path_initial_model_for_weight_conversion="./start")',
    )
  })

  it.each(['pissa', 'PiSSA_niter_4', 'olora', 'corda', 'lora_ga'])(
    '%s is refused by name even on weights that PEFT converted',
    async (init_lora_weights) => {
      const edit = withConfig({ init_lora_weights })
      await refuses('pissa-converted', edit, 'ERR_BASE_MUTATED', init_lora_weights.toLowerCase())
    },
  )

  it('says that PEFT cannot convert it where it cannot', async () => {
    const edit = withConfig({ use_rslora: true, rank_pattern: { q_proj: 2 } })
    await refuses('pissa', edit, 'ERR_BASE_MUTATED', 'PEFT cannot convert it with use_rslora')
  })

  it('LoftQ and KaSA have no conversion, and are to be merged', async () => {
    const way = /model\.merge_and_unload\(\)\.save_pretrained\("out"\)$/
    const loftq = withConfig({ init_lora_weights: 'loftq' })
    await refuses('lora-gaussian', loftq, 'ERR_BASE_MUTATED', way)
    const kasa = withConfig({ kasa_config: { beta: 1e-4, gamma: 1e-3 } })
    await refuses('lora-gaussian', kasa, 'ERR_BASE_MUTATED', way)
  })

  it.each(['eva', 'gaussian', 'orthogonal', 'mica', true, false, null])(
    '%s leaves the base as it is and is accepted',
    async (init_lora_weights) => {
      const { report } = await importMade('lora-gaussian', withConfig({ init_lora_weights }))
      expect(report.family).toBe('lora')
    },
  )
})

describe('LoRA is refused', () => {
  it.each<[string, string, Edit, string, RegExp | string]>([
    [
      'as DoRA of an embedding',
      'dora-embedding',
      () => {},
      'ERR_METHOD_UNSUPPORTED',
      /embedding.*trainable_token_indices/,
    ],
    [
      'with replicated layers',
      'replicated',
      () => {},
      'ERR_METHOD_UNSUPPORTED',
      /get_base_model_state_dict.*remove the key/,
    ],
    [
      'with half of an embedding',
      'lora-embedding',
      drop('lora_embedding_B'),
      'ERR_TENSOR_MISSING',
      'no lora_B',
    ],
    [
      'with an embedding of another size',
      'lora-embedding',
      reshape('lora_embedding_A', ([r]) => [r!, 50]),
      'ERR_TENSOR_SHAPE',
      '48 -> 32 as in the base',
    ],
    [
      'with a kernel of another size',
      'lora-conv',
      reshape('layer.0.convolution.lora_A', ([r, i]) => [r!, i!, 5, 5]),
      'ERR_TENSOR_SHAPE',
      'kernels [3,3]',
    ],
    [
      'with a convolution seen as a linear',
      'lora-conv',
      reshape('layer.0.convolution.lora_A', ([r, i]) => [r!, i!]),
      'ERR_METHOD_UNSUPPORTED',
      'not a linear layer',
    ],
    [
      'with a tied head that differs from its embedding',
      'lora-embedding-tied',
      reshape('lm_head.lora_B', (shape) => shape),
      'ERR_TENSOR_UNMATCHED',
      /lm_head\.lora_B\.weight must be .*lora_embedding_A transposed/,
    ],
    [
      'on layers that the config leaves out',
      'lora-layers',
      withConfig({ layers_to_transform: [0] }),
      'ERR_CONFIG_INVALID',
      'layers.1',
    ],
    [
      'without layers that the config names',
      'lora-layers',
      withConfig({ layers_to_transform: [0, 1] }),
      'ERR_TENSOR_MISSING',
      'layers.0',
    ],
    [
      'on layers of another list',
      'lora-layers',
      withConfig({ layers_pattern: 'blocks' }),
      'ERR_CONFIG_INVALID',
      'does not name',
    ],
    [
      'on what exclude_modules excludes',
      'lora-all-linear',
      withConfig({ exclude_modules: ['o_proj', 'v_proj'] }),
      'ERR_CONFIG_INVALID',
      'v_proj',
    ],
    [
      'without the embedding that the config names',
      'lora-gaussian',
      withConfig({ target_modules: ['q_proj', 'down_proj', 'embed_tokens'] }),
      'ERR_TENSOR_MISSING',
      'embed_tokens',
    ],
  ])('%s', async (_, name, edit, code, message) => {
    await refuses(name, edit, code, message)
  })
})

describe('experts are refused', () => {
  const one = withConfig({ target_parameters: ['experts.down_proj'] })
  const withoutInner = withTensors((tensors) => {
    for (const key of [...tensors.keys()]) if (key.includes('base_layer')) tensors.delete(key)
  })
  it.each<[string, string, Edit, string, RegExp | string]>([
    [
      'where they are square and nothing else tells which side A is on',
      'lora-experts-gpt-oss',
      both(one, withoutInner),
      'ERR_METHOD_UNSUPPORTED',
      'its experts are square',
    ],
    [
      'with fewer wrappers than parameters',
      'lora-experts-gpt-oss',
      withoutInner,
      'ERR_TENSOR_MISSING',
      'gate_up_proj, down_proj',
    ],
    [
      'with more wrappers than parameters',
      'lora-experts-gpt-oss',
      one,
      'ERR_TENSOR_UNMATCHED',
      'down_proj',
    ],
    [
      'with a parameter that nobody adapted',
      'lora-experts-gpt-oss',
      withConfig({
        target_parameters: ['experts.gate_up_proj', 'experts.down_proj', 'experts.router'],
      }),
      'ERR_TENSOR_MISSING',
      'experts.router',
    ],
    [
      'of another rank',
      'lora-experts-gpt-oss',
      withConfig({ rank_pattern: {} }),
      'ERR_TENSOR_SHAPE',
      '4 as the config says',
    ],
    [
      'of another number',
      'lora-experts-mixtral-v5',
      reshape('experts.lora_A', ([, i]) => [8, i!]),
      'ERR_TENSOR_SHAPE',
      'rank',
    ],
    [
      'that fit neither side of the base',
      'lora-experts-gpt-oss',
      reshape('experts.base_layer.lora_A', ([r]) => [r!, 40]),
      'ERR_TENSOR_SHAPE',
      'as in the base',
    ],
    [
      'as biases',
      'lora-experts-gpt-oss',
      withConfig({ target_parameters: ['experts.gate_up_proj_bias', 'experts.down_proj'] }),
      'ERR_METHOD_UNSUPPORTED',
      'gate_up_proj_bias [3,64] is neither',
    ],
  ])('%s', async (_, name, edit, code, message) => {
    await refuses(name, edit, code, message)
  })
})

describe('a stack of one expert', () => {
  it('is refused where PEFT adds its update to the wrong side', async () => {
    const found = await baseNamed('gpt-oss')
    const tensors = found.tensors.map(({ name, shape, ...rest }) => {
      return { ...rest, name, shape: name.includes('experts') ? [1, ...shape.slice(1)] : shape }
    })
    const files = folderOf('lora-experts-gpt-oss-v5')
    both(
      reshape('base_layer.lora_A', ([, i]) => [4, i!]),
      reshape('base_layer.lora_B', ([o]) => [o!, 4]),
      reshape('experts.lora_A', ([, i]) => [4, i!]),
      reshape('experts.lora_B', ([o]) => [o!, 4]),
    )(files)
    const options = { name: '@acme/made', version: '1.0.0' }
    await expect(
      importAdapter({ files, base: { ...found, tensors }, ...options }),
    ).rejects.toMatchObject({
      code: 'ERR_METHOD_UNSUPPORTED',
      message: expect.stringContaining('a stack of one expert'),
    })
  })
})

describe('norms, token rows and IA3 are refused', () => {
  it.each<[string, string, Edit, string, string]>([
    [
      'where the config names a norm without tensors',
      'norms',
      withConfig({ target_modules: ['input_layernorm', 'post_attention_layernorm', 'norm'] }),
      'ERR_TENSOR_MISSING',
      'post_attention_layernorm',
    ],
    [
      'where the config names other norms',
      'norms',
      withConfig({ target_modules: ['norm'] }),
      'ERR_CONFIG_INVALID',
      'input_layernorm',
    ],
    [
      'where the config names another embedding',
      'token-rows',
      withConfig({ target_modules: ['wte'] }),
      'ERR_CONFIG_INVALID',
      'embed_tokens',
    ],
    [
      'where the config names a layer without tensors',
      'ia3',
      withConfig({ exclude_modules: null }),
      'ERR_TENSOR_MISSING',
      'layers.0.mlp.down_proj',
    ],
  ])('%s', async (_, name, edit, code, message) => {
    await refuses(name, edit, code, message)
  })
})

describe('a parameter whose weight lies transposed', () => {
  it('is refused, also where it is square and shapes say nothing', async () => {
    await refuses(
      'lora-parameter-gpt2',
      () => {},
      'ERR_METHOD_UNSUPPORTED',
      "c_proj.weight [32,32] is neither a linear layer's weight",
    )
  })
})

describe('AdaLoRA and VeRA are refused', () => {
  it.each<[string, string, Edit, string, RegExp | string]>([
    ['without E', 'adalora', drop('lora_E'), 'ERR_TENSOR_MISSING', 'has no lora_E'],
    [
      'with an E of another length',
      'adalora',
      reshape('lora_E', () => [5, 1]),
      'ERR_TENSOR_SHAPE',
      'lora_E must be [6,1]',
    ],
    [
      'with another rank to begin with',
      'adalora',
      withConfig({ init_r: 8 }),
      'ERR_TENSOR_SHAPE',
      '8 as the config says',
    ],
    [
      'with ranks instead of what was kept',
      'adalora',
      withConfig({ rank_pattern: { q_proj: 3 } }),
      'ERR_CONFIG_INVALID',
      '6 booleans',
    ],
    [
      'with a LoftQ that AdaLoRA has not',
      'adalora',
      withConfig({ loftq_config: { loftq_bits: 4 } }),
      'ERR_METHOD_UNSUPPORTED',
      'loftq_config',
    ],
    [
      'with projections left to a random generator',
      'vera-derived',
      () => {},
      'ERR_METHOD_UNSUPPORTED',
      /save_projection = True; model\.save_pretrained\("out"\)$/,
    ],
    [
      'without projections that the config promises',
      'vera',
      drop('vera_A'),
      'ERR_TENSOR_MISSING',
      'base_model.vera_A is absent',
    ],
    [
      'with projections of another rank',
      'vera',
      withConfig({ r: 5 }),
      'ERR_TENSOR_SHAPE',
      'save this one from a model of its own',
    ],
    [
      'with projections wider than any layer',
      'vera',
      reshape('vera_A', ([r]) => [r!, 64]),
      'ERR_TENSOR_SHAPE',
      'as the widest adapted layers',
    ],
    [
      'with one of two lambdas',
      'vera',
      drop('vera_lambda_d'),
      'ERR_TENSOR_MISSING',
      'only one of its two',
    ],
    [
      'with a lambda of another length',
      'vera',
      reshape('vera_lambda_b', () => [7]),
      'ERR_TENSOR_SHAPE',
      '[7]',
    ],
    [
      'with a bias kind of another method',
      'vera',
      withConfig({ bias: 'lora_only' }),
      'ERR_CONFIG_INVALID',
      'vera_only',
    ],
  ])('%s', async (_, name, edit, code, message) => {
    await refuses(name, edit, code, message)
  })

  it('AdaLoRA of which nothing is left has no effect', async () => {
    const none = withTensors((tensors) => {
      for (const [key, { dtype, shape }] of tensors)
        if (/lora_[ABE]/.test(key)) {
          const own = shape.map((dim) => (dim === 6 ? 0 : dim))
          tensors.set(key, { dtype, shape: own, data: new Uint8Array(0) })
        } else tensors.delete(key)
    })
    const config = withConfig({
      bias: 'none',
      rank_pattern: Object.fromEntries(
        [0, 1].flatMap((layer) =>
          ['mlp.down_proj', 'self_attn.q_proj'].map((name) => [
            `model.layers.${layer}.${name}.lora_E`,
            Array(6).fill(false),
          ]),
        ),
      ),
    })
    await refuses('adalora', both(none, config), 'ERR_ZERO_EFFECT', 'all 4 modules')
  })
})

describe('names that fit a base in two ways', () => {
  it('are refused rather than guessed', async () => {
    const base = await baseNamed('qwen2-vl')
    const own = (name: string) => base.tensors.find((tensor) => tensor.name === name)!
    const q = own('model.layers.0.self_attn.q_proj.weight')
    const qkv = own('visual.blocks.0.attn.qkv.weight')
    const tensors = [
      ...base.tensors,
      { ...q, name: `language_model.${q.name}` },
      { ...qkv, name: `model.${qkv.name}` },
    ]
    const files = folderOf('lora-qwen2-vl')
    const options = { name: '@acme/made', version: '1.0.0' }
    await expect(
      importAdapter({ files, base: { ...base, tensors }, ...options }),
    ).rejects.toMatchObject({
      code: 'ERR_TENSOR_UNMATCHED',
      message: expect.stringContaining('which differ'),
    })
  })
})

import { expected, GraftError } from '@graft/sdk/format/errors.ts'

/** What the graph builder needs to know of a decoder, in the field's own names. */
export interface ModelConfig {
  architecture: string
  modelType: string
  vocab: number
  hidden: number
  intermediate: number
  layers: number
  heads: number
  kvHeads: number
  headDim: number
  maxPositions: number
  ropeTheta: number
  normEpsilon: number
  tiedHead: boolean
  /** q, k, v and o have a bias. */
  attentionBias: boolean
  /** gate, up and down have a bias. */
  mlpBias: boolean
  /** Token ids that end an answer. */
  eosIds: number[]
}

type Json = Record<string, unknown>

/** Keys of config.json that never change inference; everything else is read below or refused by name. */
const INERT = new Set(
  `_name_or_path architectures model_type torch_dtype dtype transformers_version use_cache bos_token_id eos_token_id
  pad_token_id initializer_range pretraining_tp attention_dropout output_attentions output_hidden_states return_dict
  is_decoder torchscript tie_word_embeddings vocab_size hidden_size intermediate_size num_hidden_layers
  num_attention_heads num_key_value_heads head_dim max_position_embeddings rope_theta rms_norm_eps hidden_act
  attention_bias mlp_bias rope_scaling rope_parameters quantization_config`.split(/\s+/),
)

/** Keys of rope_parameters that are read, or change nothing for the default type. */
const ROPE_KEYS = new Set(['rope_type', 'type', 'rope_theta'])

/** One row per architecture. Facts that differ between families become columns here. */
const ARCHITECTURES: Record<string, { modelType: string; activation: string }> = {
  LlamaForCausalLM: { modelType: 'llama', activation: 'silu' },
}

/** Reads config.json of a Hugging Face checkpoint. @throws ERR_ARCHITECTURE_UNSUPPORTED, ERR_CHECKPOINT_INVALID */
export function parseModelConfig(config: Json, where = 'config.json'): ModelConfig {
  const architecture = (config['architectures'] as string[] | undefined)?.[0] ?? ''
  const family = ARCHITECTURES[architecture]
  if (!family)
    throw new GraftError(
      'ERR_ARCHITECTURE_UNSUPPORTED',
      expected(
        `${where}: architectures[0]`,
        `one of ${Object.keys(ARCHITECTURES).join(', ')}`,
        architecture,
      ),
    )
  refuseUnknown(config, family, where)
  const integer = (key: string, fallback?: number): number => {
    const value = config[key] ?? fallback
    if (Number.isInteger(value) && (value as number) > 0) return value as number
    throw new GraftError(
      'ERR_CHECKPOINT_INVALID',
      expected(`${where}: ${key}`, 'a positive integer', value),
    )
  }
  const positive = (key: string, value: unknown): number => {
    if (typeof value === 'number' && value > 0 && Number.isFinite(value)) return value
    throw new GraftError(
      'ERR_CHECKPOINT_INVALID',
      expected(`${where}: ${key}`, 'a positive number', value),
    )
  }
  const hidden = integer('hidden_size')
  const heads = integer('num_attention_heads')
  const kvHeads = integer('num_key_value_heads', heads)
  const headDim = integer('head_dim', hidden / heads)
  if (headDim % 2 !== 0)
    throw new GraftError(
      'ERR_CHECKPOINT_INVALID',
      expected(`${where}: head_dim`, 'even: RoPE turns pairs', headDim),
    )
  if (heads % kvHeads !== 0)
    throw new GraftError(
      'ERR_CHECKPOINT_INVALID',
      expected(`${where}: num_attention_heads`, `a multiple of ${kvHeads} key/value heads`, heads),
    )
  const rope = config['rope_parameters'] as Json | undefined
  const eos = config['eos_token_id']
  return {
    architecture,
    modelType: family.modelType,
    vocab: integer('vocab_size'),
    hidden,
    intermediate: integer('intermediate_size'),
    layers: integer('num_hidden_layers'),
    heads,
    kvHeads,
    headDim,
    maxPositions: integer('max_position_embeddings', 2048),
    ropeTheta: positive('rope_theta', rope?.['rope_theta'] ?? config['rope_theta'] ?? 10_000),
    normEpsilon: positive('rms_norm_eps', config['rms_norm_eps'] ?? 1e-6),
    tiedHead: config['tie_word_embeddings'] === true,
    attentionBias: config['attention_bias'] === true,
    mlpBias: config['mlp_bias'] === true,
    eosIds: Array.isArray(eos) ? (eos as number[]) : typeof eos === 'number' ? [eos] : [],
  }
}

function refuseUnknown(
  config: Json,
  family: { modelType: string; activation: string },
  where: string,
): void {
  const refuse = (key: string, what: string) => {
    throw new GraftError(
      'ERR_ARCHITECTURE_UNSUPPORTED',
      expected(`${where}: ${key}`, what, config[key]),
    )
  }
  for (const key of Object.keys(config))
    if (!INERT.has(key))
      throw new GraftError(
        'ERR_ARCHITECTURE_UNSUPPORTED',
        `${where}: the key ${JSON.stringify(key)} is not understood; it may change what the model computes`,
      )
  if (config['model_type'] !== family.modelType) refuse('model_type', `"${family.modelType}"`)
  if ((config['hidden_act'] ?? family.activation) !== family.activation)
    refuse('hidden_act', `"${family.activation}"`)
  for (const key of ['attention_bias', 'mlp_bias'])
    if (typeof (config[key] ?? false) !== 'boolean') refuse(key, 'true or false')
  if (config['rope_scaling']) refuse('rope_scaling', 'absent')
  const quantization = config['quantization_config'] as Json | null | undefined
  if (quantization && !isBnbNf4(quantization))
    refuse('quantization_config', "absent, or bitsandbytes' 4-bit nf4")
  const rope = (config['rope_parameters'] ?? {}) as Json
  for (const key of ['rope_type', 'type'])
    if ((rope[key] ?? 'default') !== 'default') refuse('rope_parameters', 'of rope_type "default"')
  for (const key of Object.keys(rope))
    if (!ROPE_KEYS.has(key)) refuse('rope_parameters', `without ${JSON.stringify(key)}`)
}

/** Which weights are quantised, and how, stands beside each of them in the file. */
const isBnbNf4 = (quantization: Json): boolean =>
  quantization['quant_method'] === 'bitsandbytes' &&
  quantization['load_in_4bit'] === true &&
  quantization['bnb_4bit_quant_type'] === 'nf4' &&
  (quantization['bnb_4bit_quant_storage'] ?? 'uint8') === 'uint8'

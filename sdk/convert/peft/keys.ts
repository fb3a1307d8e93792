import type { KeyTable } from '../config-keys.ts'

/** Keys of every PEFT config. */
export const COMMON = {
  peft_type: 'read',
  peft_version: 'read',
  modules_to_save: 'read',
  task_type: 'inert',
  auto_mapping: 'inert',
  base_model_name_or_path: 'inert',
  revision: 'inert',
  inference_mode: 'inert',
} as const satisfies KeyTable

const PUBLISH_MERGED =
  'Merge it and publish the result as a base: model.merge_and_unload().save_pretrained("out")'
const RETRAIN = 'Train it as plain LoRA'

export const LORA_KEYS: KeyTable = {
  ...COMMON,
  r: 'read',
  lora_alpha: 'read',
  use_rslora: 'read',
  rank_pattern: 'read',
  alpha_pattern: 'read',
  use_dora: 'read',
  lora_bias: 'read',
  bias: 'read',
  target_modules: 'read',
  exclude_modules: 'read',
  layers_to_transform: 'read',
  layers_pattern: 'read',
  trainable_token_indices: 'read',
  init_lora_weights: 'read',
  // A and B are stored in torch's orientation whatever the base's is; the base's headers tell its own.
  fan_in_fan_out: 'inert',
  lora_dropout: 'inert',
  // Of PEFT before 0.5.
  merge_weights: 'inert',
  enable_lora: { unset: 'Save the adapter again with PEFT 0.5 or later' },
  megatron_core: 'inert',
  qalora_group_size: 'inert',
  // Settings of initialisations; the ones that change the base are refused by init_lora_weights.
  loftq_config: 'inert',
  eva_config: 'inert',
  corda_config: 'inert',
  lora_ga_config: 'inert',
  runtime_config: 'inert',
  megatron_config: { unset: 'Save the adapter from an unsharded model' },
  layer_replication: {
    unset:
      'PEFT repeats layers of the base with shared weights. Save that base with weights of its own for each layer, safetensors.torch.save_file({k: v.clone() for k, v in peft.get_base_model_state_dict(model).items()}, "model.safetensors"), beside model.config, publish it, and remove the key',
  },
  alora_invocation_tokens: { unset: `Activated LoRA depends on the prompt. ${RETRAIN}` },
  use_qalora: { unset: `QALoRA pools its input. ${RETRAIN}` },
  use_bdlora: { unset: `BD-LoRA is block diagonal. ${PUBLISH_MERGED}` },
  arrow_config: { unset: 'Arrow routes between several adapters. Publish each by itself' },
  // KaSA cuts the base's weights: init_lora_weights and this are read together.
  kasa_config: 'read',
  // VeLoRA compresses what training keeps for its backward pass; the forward pass is LoRA's.
  velora_config: 'read',
  monteclora_config: {
    unset: `MonteCLoRA draws its factors anew in every call, merging takes their mean. ${PUBLISH_MERGED}`,
  },
  target_parameters: 'read',
  ensure_weight_tying: 'read',
}

/** AdaLoraConfig inherits all of LoraConfig, and AdaLoRA reads little of it. */
export const ADALORA_KEYS: KeyTable = {
  ...LORA_KEYS,
  init_r: 'read',
  rank_pattern: 'read',
  target_r: 'read',
  // How ranks were given out while it trained.
  ...{ tinit: 'inert', tfinal: 'inert', deltaT: 'inert', total_step: 'inert' },
  ...{ beta1: 'inert', beta2: 'inert', orth_reg_weight: 'inert' },
  // Ignored by AdaLoRA: it begins with init_r, scales by its rank, and starts from E = 0 always.
  ...{ r: 'inert', use_rslora: 'inert', alpha_pattern: 'inert', init_lora_weights: 'inert' },
  lora_bias: 'inert',
  use_dora: { unset: 'PEFT has no DoRA of AdaLoRA; remove it' },
  loftq_config: { unset: 'PEFT has no LoftQ of AdaLoRA; remove it' },
  kasa_config: { unset: 'PEFT has no KaSA of AdaLoRA; remove it' },
  target_parameters: { unset: 'PEFT has no AdaLoRA of parameters; adapt linear modules' },
  velora_config: { unset: 'PEFT has no VeLoRA of AdaLoRA; remove it' },
  ensure_weight_tying: { unset: 'AdaLoRA adapts no embeddings; remove it' },
}

export const VERA_KEYS: KeyTable = {
  ...COMMON,
  r: 'read',
  save_projection: 'read',
  bias: 'read',
  target_modules: 'read',
  exclude_modules: 'read',
  layers_to_transform: 'read',
  layers_pattern: 'read',
  // Where the projections came from; they are stored.
  projection_prng_key: 'inert',
  vera_dropout: 'inert',
  d_initial: 'inert',
  fan_in_fan_out: 'inert',
  init_weights: 'inert',
}

export const IA3_KEYS: KeyTable = {
  ...COMMON,
  target_modules: 'read',
  feedforward_modules: 'read',
  exclude_modules: 'read',
  fan_in_fan_out: 'inert',
  init_ia3_weights: 'inert',
}

const PROMPT_COMMON = {
  ...COMMON,
  num_virtual_tokens: 'read',
  token_dim: 'read',
  num_layers: 'read',
  num_attention_heads: 'read',
  num_transformer_submodules: 'read',
} as const satisfies KeyTable

export const PREFIX_KEYS: KeyTable = {
  ...PROMPT_COMMON,
  // The saved tensor is the projected one, whatever encoder made it.
  prefix_projection: 'inert',
  encoder_hidden_size: 'inert',
  init_weights: 'inert',
}

export const PROMPT_KEYS: KeyTable = {
  ...PROMPT_COMMON,
  prompt_tuning_init: 'inert',
  prompt_tuning_init_text: 'inert',
  tokenizer_name_or_path: 'inert',
  tokenizer_kwargs: 'inert',
}

export const P_TUNING_KEYS: KeyTable = {
  ...PROMPT_COMMON,
  // The encoder is applied before saving.
  encoder_reparameterization_type: 'inert',
  encoder_hidden_size: 'inert',
  encoder_num_layers: 'inert',
  encoder_dropout: 'inert',
}

/** Rows of embeddings, trained by themselves. */
export const TOKENS_KEYS: KeyTable = {
  ...COMMON,
  token_indices: 'read',
  target_modules: 'read',
  exclude_modules: 'read',
  // The saved rows are what the embedding answers, however they began.
  init_weights: 'inert',
}

export const LN_KEYS: KeyTable = { ...COMMON, target_modules: 'read', exclude_modules: 'read' }

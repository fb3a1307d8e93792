import type { KeyTable } from '../config-keys.ts'

export const TOP_KEYS: KeyTable = {
  config: 'read',
  hidden_size: 'read',
  model_type: 'read',
  name: 'read',
  version: 'read',
  model_class: 'inert',
  model_name: 'inert',
  config_id: 'inert',
}

export const HEAD_KEYS: KeyTable = {
  config: 'read',
  model_type: 'read',
  model_class: 'inert',
  name: 'read',
  hidden_size: 'inert',
  model_name: 'inert',
  version: 'inert',
  // Names of classes, which a head that names tokens has by default and does not use.
  label2id: 'inert',
  num_labels: 'inert',
}

/** A causal_lm head of the library's own classes. */
export const LM_HEAD_KEYS: KeyTable = {
  head_type: 'read',
  layers: 'read',
  bias: 'read',
  vocab_size: 'inert',
  embedding_size: 'inert',
  // Of the layers in front of the last one, which are refused.
  activation_function: 'inert',
  layer_norm: 'inert',
  dropout_prob: 'inert',
  // Of the loss.
  shift_labels: 'inert',
  label2id: 'inert',
}

const initial = { dropout: 'inert', init_weights: 'inert', init_weights_seed: 'inert' } as const

export const LORA_KEYS: KeyTable = {
  ...initial,
  architecture: 'read',
  selfattn_lora: 'read',
  intermediate_lora: 'read',
  output_lora: 'read',
  leave_out: 'read',
  r: 'read',
  alpha: 'read',
  attn_matrices: 'read',
  composition_mode: 'read',
  use_gating: {
    unset:
      'A gated update depends on the whole prompt, and its gate stands instead of alpha / r; train with use_gating=False',
  },
  use_dora: 'read',
  vera_d: 'read',
  vera_b: 'read',
  // The tensors have it.
  dtype: 'inert',
}

export const PREFIX_KEYS: KeyTable = {
  ...initial,
  architecture: 'read',
  prefix_length: 'read',
  leave_out: 'read',
  // The tensors say whether the prefix is flat; eject_prefix_tuning leaves the flag as it was.
  flat: 'inert',
  bottleneck_size: 'inert',
  non_linearity: 'inert',
  // Places that a decoder has not.
  encoder_prefix: 'inert',
  cross_prefix: 'inert',
  use_gating: { unset: 'A gated prefix depends on the prompt; train with use_gating=False' },
  shared_gating: 'inert',
}

const phm = {
  unset:
    'Compacter layers are sums of Kronecker products, which no operation holds; train a bottleneck with phm_layer=False, or publish the merged projections as one',
} as const

export const BN_KEYS: KeyTable = {
  ...initial,
  architecture: 'read',
  mh_adapter: 'read',
  output_adapter: 'read',
  reduction_factor: 'read',
  non_linearity: 'read',
  original_ln_before: 'read',
  original_ln_after: 'read',
  ln_before: 'read',
  ln_after: 'read',
  is_parallel: 'read',
  scaling: 'read',
  residual_before_ln: 'read',
  adapter_residual_before_ln: 'read',
  leave_out: 'read',
  use_gating: 'read',
  inv_adapter: {
    unset:
      'Invertible adapters change the embedding and the head both; train with inv_adapter=None',
  },
  cross_adapter: { unset: 'A decoder has no cross attention; train with cross_adapter=False' },
  phm_layer: phm,
  // Settings of parts refused above and of training.
  inv_adapter_reduction_factor: 'inert',
  stochastic_depth: 'inert',
  phm_dim: 'inert',
  phm_rank: 'inert',
  phm_bias: 'inert',
  phm_c_init: 'inert',
  phm_init_range: 'inert',
  learn_phm: 'inert',
  factorized_phm_W: 'inert',
  factorized_phm_rule: 'inert',
  shared_W_phm: 'inert',
  shared_phm_rule: 'inert',
  hypercomplex_nonlinearity: 'inert',
}

import type { KeyTable } from '../config-keys.ts'
import { COMMON } from './keys.ts'

/** Keys of all types whose adapted modules are dense operations. */
const TARGETED = {
  ...COMMON,
  target_modules: 'read',
  exclude_modules: 'read',
  layers_to_transform: 'read',
  layers_pattern: 'read',
  // Where training began says nothing about where it ended; none of these changes the base.
  init_weights: 'inert',
} as const satisfies KeyTable

const LYCORIS = {
  ...TARGETED,
  r: 'read',
  alpha: 'read',
  rank_pattern: 'read',
  alpha_pattern: 'read',
  rank_dropout: 'inert',
  module_dropout: 'inert',
  // Of convolutions alone, whose tensors (t1, t2) are refused by name.
  use_effective_conv2d: 'inert',
} as const satisfies KeyTable

export const LOHA_KEYS: KeyTable = LYCORIS

export const LOKR_KEYS: KeyTable = {
  ...LYCORIS,
  // They chose the shapes of the sides, which the tensors have.
  decompose_both: 'inert',
  decompose_factor: 'inert',
  rank_dropout_scale: 'inert',
}

export const OFT_KEYS: KeyTable = {
  ...TARGETED,
  r: 'read',
  oft_block_size: 'read',
  block_share: 'read',
  coft: 'read',
  eps: 'read',
  use_cayley_neumann: 'read',
  num_cayley_neumann_terms: 'read',
  bias: 'read',
  module_dropout: 'inert',
  // Rotations act on the input, whichever way the base's file holds its weight.
  fan_in_fan_out: 'inert',
}

export const BOFT_KEYS: KeyTable = {
  ...TARGETED,
  boft_block_size: 'read',
  boft_block_num: 'read',
  boft_n_butterfly_factor: 'read',
  bias: 'read',
  boft_dropout: 'inert',
  fan_in_fan_out: 'inert',
}

export const FOURIERFT_KEYS: KeyTable = {
  ...TARGETED,
  n_frequency: 'read',
  n_frequency_pattern: 'read',
  scaling: 'read',
  bias: 'read',
  // The places that the seed chose are read from the file, and never drawn again.
  random_loc_seed: 'inert',
  // dW is [out, in] for Conv1D too: PEFT computes F.linear(x, dW) with both.
  fan_in_fan_out: 'inert',
}

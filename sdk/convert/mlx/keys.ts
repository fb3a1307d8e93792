import type { KeyTable } from '../config-keys.ts'

/** What `mlx_lm.lora` writes: all of its arguments, of which few reach the weights. */
export const MLX_KEYS: KeyTable = {
  fine_tune_type: 'read',
  num_layers: 'read',
  lora_parameters: 'read',
  model: 'inert',
  train: 'inert',
  test: 'inert',
  data: 'inert',
  config: 'inert',
  seed: 'inert',
  iters: 'inert',
  batch_size: 'inert',
  val_batches: 'inert',
  test_batches: 'inert',
  learning_rate: 'inert',
  lr_schedule: 'inert',
  optimizer: 'inert',
  optimizer_config: 'inert',
  steps_per_report: 'inert',
  steps_per_eval: 'inert',
  save_every: 'inert',
  adapter_path: 'inert',
  resume_adapter_file: 'inert',
  max_seq_length: 'inert',
  grad_checkpoint: 'inert',
  grad_accumulation_steps: 'inert',
  clear_cache_threshold: 'inert',
  mask_prompt: 'inert',
  report_to: 'inert',
  project_name: 'inert',
  wandb: 'inert',
  trust_remote_code: 'inert',
  // Names of older releases for what fine_tune_type and num_layers say now; mlx-lm no longer reads them.
  use_dora: { unset: 'Write "fine_tune_type": "dora" instead, which mlx-lm reads' },
  lora_layers: { unset: 'Write it as "num_layers", which mlx-lm reads' },
}

export const PARAMETER_KEYS: KeyTable = {
  rank: 'read',
  scale: 'read',
  keys: 'read',
  dropout: 'inert',
  alpha: {
    unset:
      'The first releases of mlx-lm multiplied scale by alpha / rank, later ones leave alpha out. Write the factor that the adapter was trained with as "scale" and remove alpha',
  },
}

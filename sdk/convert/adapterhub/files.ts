/** What the `adapters` library calls its files. */
export const ADAPTERHUB_FILES = {
  config: 'adapter_config.json',
  weights: 'adapter.safetensors',
} as const

/** What mlx-lm calls its files. */
export const MLX_FILES = { config: 'adapter_config.json', weights: 'adapters.safetensors' } as const

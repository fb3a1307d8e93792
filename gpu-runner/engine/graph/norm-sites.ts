import type { ModelConfig } from '../../checkpoint/model-config.ts'

/** Module paths of the norms of a Llama, in the order they run. */
export function normSites({ layers }: ModelConfig): string[] {
  const blocks = Array.from({ length: layers }, (_, layer) => [
    `model.layers.${layer}.input_layernorm`,
    `model.layers.${layer}.post_attention_layernorm`,
  ])
  return [...blocks.flat(), 'model.norm']
}

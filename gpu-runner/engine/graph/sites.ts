import type { ModelConfig } from '../../checkpoint/model-config.ts'

/** A linear module of the base that operations may address. */
export interface LinearSite {
  /** Module path, as in the base's safetensors. */
  path: string
  in: number
  out: number
  /** The base adds a bias [out] there. */
  bias: boolean
}

/** The seven linears of every Llama block, in the order they run. */
export function linearSites(config: ModelConfig): LinearSite[] {
  const { hidden, intermediate, heads, kvHeads, headDim } = config
  const sizes: [string, number, number][] = [
    ['self_attn.q_proj', hidden, heads * headDim],
    ['self_attn.k_proj', hidden, kvHeads * headDim],
    ['self_attn.v_proj', hidden, kvHeads * headDim],
    ['self_attn.o_proj', heads * headDim, hidden],
    ['mlp.gate_proj', hidden, intermediate],
    ['mlp.up_proj', hidden, intermediate],
    ['mlp.down_proj', intermediate, hidden],
  ]
  return Array.from({ length: config.layers }, (_, layer) =>
    sizes.map(([name, inner, out]) => ({
      path: `model.layers.${layer}.${name}`,
      in: inner,
      out,
      bias: name.startsWith('mlp.') ? config.mlpBias : config.attentionBias,
    })),
  ).flat()
}

import type { ModelConfig } from '../../checkpoint/model-config.ts'
import { linearSites } from './sites.ts'

/** Linears of a block that read the same input and run as one product; one part is a group too. */
export interface LinearGroup {
  /** `model.layers.0.qkv`. */
  key: string
  kind: GroupKind
  in: number
  /** Sum over the parts. */
  out: number
  /** Outputs of one chunk: every part is a whole number of them. */
  chunk: number
  parts: GroupPart[]
}

export interface GroupPart {
  /** Module path, as in the base's safetensors. */
  path: string
  out: number
  /** Where its outputs begin in the group's. */
  first: number
  bias: boolean
}

/** Groups in the order a block runs them, by the names of their parts. */
export const GROUP_PARTS = {
  qkv: ['self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj'],
  o: ['self_attn.o_proj'],
  gate_up: ['mlp.gate_proj', 'mlp.up_proj'],
  down: ['mlp.down_proj'],
} as const
export type GroupKind = keyof typeof GROUP_PARTS
export const GROUP_KINDS = Object.keys(GROUP_PARTS) as GroupKind[]

const divisor = (a: number, b: number): number => (b === 0 ? a : divisor(b, a % b))

/** Every group of a base, layer by layer. */
export function linearGroups(config: ModelConfig): LinearGroup[] {
  const sites = new Map(linearSites(config).map((site) => [site.path, site]))
  return Array.from({ length: config.layers }, (_, layer) =>
    GROUP_KINDS.map((kind): LinearGroup => {
      let out = 0
      const linears = GROUP_PARTS[kind].map((name) => sites.get(`model.layers.${layer}.${name}`)!)
      const parts = linears.map((site): GroupPart => {
        const first = out
        out += site.out
        return { path: site.path, out: site.out, first, bias: site.bias }
      })
      const chunk = parts.reduce((most, part) => divisor(most, part.out), 0)
      const key = `model.layers.${layer}.${kind}`
      return { key, kind, in: linears[0]!.in, out, chunk, parts }
    }),
  ).flat()
}

/** Chunks of a group, and the part each belongs to. */
export const chunkParts = ({ parts, chunk }: LinearGroup): number[] =>
  parts.flatMap(({ out }, part) => Array.from({ length: out / chunk }, () => part))

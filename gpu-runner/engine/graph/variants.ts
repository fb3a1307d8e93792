/**
 * Which adapter machinery a graph carries. A step runs in the smallest variant that its rows need, so that base rows
 * pay nothing for it. Each is a session of its own, built when first needed, over the same weights.
 */
export interface Carries {
  /** Low-rank pages. */
  lowRank: boolean
  /** Vectors (DoRA, IA3), bottlenecks, virtual tokens. */
  rich: boolean
  /** Input vectors where several linears read one input. */
  partInputs: boolean
  /** Other output heads, or rows of them. */
  heads: boolean
  /** Norms, biases and linears of the blocks instead of the base's. */
  own: boolean
}

export const VARIANTS = {
  base: {
    lowRank: false,
    rich: false,
    partInputs: false,
    heads: false,
    own: false,
  },
  /** The LoRA family. */
  low_rank: {
    lowRank: true,
    rich: false,
    partInputs: false,
    heads: false,
    own: false,
  },
  rich: { lowRank: true, rich: true, partInputs: false, heads: false, own: false },
  full: { lowRank: true, rich: true, partInputs: true, heads: true, own: true },
} as const satisfies Record<string, Carries>
export type Variant = keyof typeof VARIANTS

/** Smallest first. */
export const VARIANT_ORDER: readonly Variant[] = ['base', 'low_rank', 'rich', 'full']

export const widest = (variants: Variant[]): Variant =>
  variants.reduce<Variant>(
    (most, v) => (VARIANT_ORDER.indexOf(v) > VARIANT_ORDER.indexOf(most) ? v : most),
    'base',
  )

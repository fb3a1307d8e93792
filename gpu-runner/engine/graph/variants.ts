/**
 * Which adapter machinery a graph carries. A step runs in the smallest variant that its rows need, so that base rows
 * pay nothing for it. Each is a session of its own, built when first needed.
 */
export const VARIANTS = {
  base: { lowRank: false, rich: false, head: false },
  /** LoRA family only. */
  low_rank: { lowRank: true, rich: false, head: false },
  /** Also vectors (DoRA, IA3), bottlenecks and virtual tokens. */
  rich: { lowRank: true, rich: true, head: false },
  /** Also other output heads. */
  head: { lowRank: true, rich: true, head: true },
} as const
export type Variant = keyof typeof VARIANTS

/** Smallest first. */
export const VARIANT_ORDER: readonly Variant[] = ['base', 'low_rank', 'rich', 'head']

export const widest = (variants: Variant[]): Variant =>
  variants.reduce<Variant>(
    (most, v) => (VARIANT_ORDER.indexOf(v) > VARIANT_ORDER.indexOf(most) ? v : most),
    'base',
  )

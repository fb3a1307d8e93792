/** Which adapter machinery a graph carries. */
export interface Carries {
  /** Low-rank pages. */
  lowRank: boolean
  /** They are one adapter's, and every token reads them. */
  oneAdapter: boolean
  /** Bottlenecks that are pages. */
  bottlenecks: boolean
  /** Vectors (DoRA, IA3). */
  vectors: boolean
  /** Virtual tokens, and rows of the embedding. */
  virtual: boolean
  /** Input vectors where several linears read one input. */
  partInputs: boolean
  /** Other output heads, or rows of them. */
  heads: boolean
  /** Norms, biases and linears of the blocks instead of the base's. */
  own: boolean
}

const NOTHING: Carries = {
  lowRank: false,
  oneAdapter: false,
  bottlenecks: false,
  vectors: false,
  virtual: false,
  partInputs: false,
  heads: false,
  own: false,
}
const RICH: Carries = { ...NOTHING, lowRank: true, bottlenecks: true, vectors: true, virtual: true }

/**
 * A step runs in the smallest variant that its rows need, so that base rows pay nothing for adapters. Each is a session of
 * its own, built when first needed, over the same weights. Smallest first.
 */
export const VARIANTS = {
  base: NOTHING,
  /** The LoRA family. */
  low_rank: { ...NOTHING, lowRank: true },
  bottleneck: { ...NOTHING, bottlenecks: true },
  rich: RICH,
  full: { ...RICH, partInputs: true, heads: true, own: true },
  /** For low_rank, where a run is one row: no adapter asks for it. */
  low_rank_one: { ...NOTHING, lowRank: true, oneAdapter: true },
} as const satisfies Record<string, Carries>
export type Variant = keyof typeof VARIANTS

const ORDER = Object.keys(VARIANTS) as Variant[]

/** The smallest variant that carries what each of these does. */
export function widest(variants: readonly Variant[]): Variant {
  const asked = (Object.keys(NOTHING) as (keyof Carries)[]).filter((part) =>
    variants.some((variant) => VARIANTS[variant][part]),
  )
  return ORDER.find((variant) => asked.every((part) => VARIANTS[variant][part])) ?? 'full'
}

/** Every variant that a run over rows of these may need. */
export const reachable = (variants: Iterable<Variant>): Variant[] => {
  const all = new Set<Variant>()
  for (const variant of variants)
    for (const other of ['base' as const, ...all]) all.add(widest([variant, other]))
  return ORDER.filter((variant) => all.has(variant))
}

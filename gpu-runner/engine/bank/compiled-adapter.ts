import type { Digest } from '@graft/sdk/format/digest.ts'
import type { Activation } from '@graft/sdk/format/operations.ts'
import type { OrderFlag, Placement } from '../graph/bottleneck-keys.ts'
import type { GroupKind } from '../graph/linear-groups.ts'
import { type BottleneckReads, NO_TRAITS, type Traits } from '../graph/traits.ts'
import type { Variant } from '../graph/variants.ts'
import type { AdapterPages } from './low-rank-pages.ts'
import type { OwnTensors } from './own-tensors.ts'

/** An adapter in the layout of the bank: what a graph reads, row by row. */
export interface CompiledAdapter {
  digest: Digest
  variant: Variant
  /** false: may not stand in a weighted sum. */
  composable: boolean
  /** Low-rank updates, the effective scale (and DoRA's g) folded into B. */
  pages: Map<GroupKind, AdapterPages>
  /** By site: c of y = c * Wx (DoRA's g, IA3's l on the output), [out]. */
  outVectors: Map<string, Float32Array>
  /** By site: l of y = W(l * x), [in]. */
  inVectors: Map<string, Float32Array>
  /** Kinds of groups and sides of them where it has vectors, see vectorsName. */
  vectorsAt: Set<string>
  /** Bottlenecks with norms, gates or residuals of their own. */
  bottleneck: CompiledBottleneck | null
  /** All others. */
  plainBottleneck: PlainBottleneck | null
  prefix: { layer: number; tokens: number; k: Float32Array; v: Float32Array }[]
  /** Virtual token embeddings [tokens, hidden]. */
  prompt: { tokens: number; embeddings: Float32Array } | null
  /** Another output head, [hidden, vocab]. */
  head: Float32Array | null
  /** Another embedding by token id, [hidden] each. */
  embeddings: Map<number, Float32Array> | null
  /** Norms, biases, linears and rows of the head instead of the base's. */
  own: OwnTensors
  /** A prompt must be computed in one run. */
  wholePrompt: boolean
  bytes: number
}

export interface PlainBottleneck {
  activation: Activation
  /** Pages of all layers at one place; see graph/bottleneck-pages.ts. */
  places: Map<
    Placement,
    { reads: BottleneckReads; count: number; tables: Map<string, Float32Array> }
  >
}

export interface CompiledBottleneck {
  /** Rows of the bottleneck bank: one for the bias of U, and the largest reduced size over its sites. */
  rows: number
  activation: Activation
  orders: Partial<Record<Placement, Record<OrderFlag, boolean>>>
  /** By bottleneckKey: down and up [rows, hidden], downBias [rows]; scaling folded into up. */
  sites: Map<string, { down: Float32Array; downBias: Float32Array; up: Float32Array }>
  /** Norms and gates, [places, vectors, hidden] as OWN_VECTORS says. */
  own: Float32Array
}

/** What the adapter asks of a graph. */
export const traitsOf = ({ variant, pages, plainBottleneck }: CompiledAdapter): Traits => {
  if (variant === 'low_rank')
    return {
      ...NO_TRAITS,
      kinds: new Set(pages.keys()),
      severalPages: [...pages.values()].some(({ count }) => count > 1),
    }
  if (!plainBottleneck) return NO_TRAITS
  const { activation, places } = plainBottleneck
  return {
    ...NO_TRAITS,
    activations: new Set([activation]),
    places: new Set(places.keys()),
    reads: new Set([...places.values()].map(({ reads }) => reads)),
  }
}

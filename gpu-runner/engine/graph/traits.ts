import type { Activation } from '@graft/sdk/format/operations.ts'
import type { Placement } from './bottleneck-keys.ts'
import type { GroupKind } from './linear-groups.ts'
import type { Carries } from './variants.ts'

/** What a bottleneck reads: the sub-layer's output, that and the residual stream added, or the stream alone. */
export type BottleneckReads = 'output' | 'sum' | 'stream'

/** What the adapters of the bank ask of a graph: a graph is written for what was loaded so far, not for all there is. */
export interface Traits {
  /** Of bottlenecks that are pages, as are the next two. */
  activations: ReadonlySet<Activation>
  places: ReadonlySet<Placement>
  reads: ReadonlySet<BottleneckReads>
  /** Linears that adapters of the LoRA family alone update. */
  kinds: ReadonlySet<GroupKind>
  /** Some of these have more pages than one. */
  severalPages: boolean
}

export const NO_TRAITS: Traits = {
  activations: new Set(),
  places: new Set(),
  reads: new Set(),
  kinds: new Set(),
  severalPages: false,
}

export const joinTraits = (a: Traits, b: Traits): Traits => ({
  activations: new Set([...a.activations, ...b.activations]),
  places: new Set([...a.places, ...b.places]),
  reads: new Set([...a.reads, ...b.reads]),
  kinds: new Set([...a.kinds, ...b.kinds]),
  severalPages: a.severalPages || b.severalPages,
})

/** Names what a graph that carries these is written for. */
export function traitsKey(traits: Traits, { bottlenecks, oneAdapter }: Carries): string {
  const { activations, places, reads, kinds, severalPages } = traits
  return [
    ...(bottlenecks ? [activations, places, reads] : []),
    ...(oneAdapter ? [kinds, severalPages ? ['pages'] : []] : []),
  ]
    .flatMap((names) => [...names].sort())
    .join('-')
}

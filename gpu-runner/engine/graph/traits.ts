import type { Activation } from '@graft/sdk/format/operations.ts'
import type { Placement } from './bottleneck-keys.ts'

/** What a bottleneck reads: the sub-layer's output, that and the residual stream added, or the stream alone. */
export type BottleneckReads = 'output' | 'sum' | 'stream'

/** What the bottlenecks of the bank ask of a graph: a graph is written for what was loaded so far, not for all there is. */
export interface Traits {
  activations: ReadonlySet<Activation>
  places: ReadonlySet<Placement>
  reads: ReadonlySet<BottleneckReads>
}

export const NO_TRAITS: Traits = { activations: new Set(), places: new Set(), reads: new Set() }

export const joinTraits = (a: Traits, b: Traits): Traits => ({
  activations: new Set([...a.activations, ...b.activations]),
  places: new Set([...a.places, ...b.places]),
  reads: new Set([...a.reads, ...b.reads]),
})

export const traitsKey = ({ activations, places, reads }: Traits): string =>
  [activations, places, reads].flatMap((names) => [...names].sort()).join('-')

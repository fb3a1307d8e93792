import type { Activation } from '@graft/sdk/format/operations.ts'

/** What the bottlenecks of the bank ask of a graph: a graph is written for what was loaded so far, not for all there is. */
export interface Traits {
  /** Without `linear`, which is the absence of one. */
  activations: ReadonlySet<Activation>
  /** Some read more than the sub-layer's output. */
  reads: boolean
}

export const NO_TRAITS: Traits = { activations: new Set(), reads: false }

export const joinTraits = (a: Traits, b: Traits): Traits => ({
  activations: new Set([...a.activations, ...b.activations]),
  reads: a.reads || b.reads,
})

export const traitsKey = ({ activations, reads }: Traits): string =>
  [...[...activations].sort(), ...(reads ? ['reads'] : [])].join('-')

import type { Digest } from '@graft/sdk/format/digest.ts'
import type { OperationKind } from '@graft/sdk/format/operations.ts'
import type { Runner } from '../fleet/fleet.ts'
import { rendezvous } from './rendezvous.ts'

/** A node may carry this much more than the mean before keys spill to the next: simulated p99 is flat from 1.25 on. */
export const LOAD_BOUND = 1.25
/** Milliseconds for which a residency report is believed; an older one falls back to bounded hashing alone. */
export const RESIDENCY_FRESH_MS = 10_000

export interface RouteQuestion {
  base: Digest
  /** Digests of the call's adapters; [] = the base alone. */
  adapters: Digest[]
  /** What those adapters are made of. */
  operations: OperationKind[]
  runners: Runner[]
  /** Calls that this edge has open at a runner, by runner id. */
  open: (id: string) => number
  /** Unix milliseconds. */
  now: number
}

/**
 * The runners that may answer, best first; [] when none serves the base with these operations.
 * For adapters: fresh residents first, then rendezvous order of (base, adapters), and whoever is above the load bound
 * goes last. For the base alone: least loaded first.
 */
export function rankRunners(question: RouteQuestion): Runner[] {
  const { base, adapters, operations, runners, open, now } = question
  const able = runners.filter(
    ({ draining, status }) =>
      !draining &&
      status.base.digest === base &&
      operations.every((operation) => status.operations.includes(operation)),
  )
  const load = new Map(able.map((runner) => [runner, loadOf(runner, open)]))
  const key = [base, ...[...adapters].sort()].join('\n')
  const order = rendezvous(able, ({ status }) => status.id, key)
  if (adapters.length === 0) return order.sort((a, b) => load.get(a)! - load.get(b)!)
  const bound = loadBound([...load.values()])
  const group = (runner: Runner): number => {
    if (load.get(runner)! > bound) return 3
    return now - runner.seenAt < RESIDENCY_FRESH_MS ? missingTier(runner, adapters) : 2
  }
  // Array.sort is stable, so rendezvous order decides within a group; above the bound the lighter comes first.
  return order.sort((a, b) => {
    const difference = group(a) - group(b)
    if (difference !== 0 || group(a) < 3) return difference
    return load.get(a)! - load.get(b)!
  })
}

/** Calls per slot: the runner's own report, or what this edge knows to be open there if that is more. */
function loadOf({ status }: Runner, open: (id: string) => number): number {
  return Math.max(status.running + status.waiting, open(status.id)) / Math.max(1, status.slots)
}

/** The mean with one more call on the floor, so that an idle fleet is never "above" its own mean. */
function loadBound(loads: number[]): number {
  const mean = loads.reduce((sum, load) => sum + load, 0) / Math.max(1, loads.length)
  return LOAD_BOUND * Math.max(mean, 0.5)
}

/** 0 = every adapter is in the bank, 1 = every one is at least in host memory, 2 = some must be fetched. */
function missingTier({ status }: Runner, adapters: Digest[]): number {
  const tiers = new Map(status.residency.map(({ digest, tier }) => [digest, tier]))
  if (adapters.every((digest) => tiers.get(digest) === 'bank')) return 0
  const near = (digest: Digest) => tiers.get(digest) === 'bank' || tiers.get(digest) === 'host'
  return adapters.every(near) ? 1 : 2
}

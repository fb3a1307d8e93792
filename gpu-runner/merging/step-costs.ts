import type { AdapterSteps, Steps, Traffic } from './traffic.ts'

/** Milliseconds of a decode run of the base alone on this machine: runMs + rows * rowMs + positions * positionMs. */
export interface RunCosts {
  /** What a run costs however few its rows: reading the weights, starting operators. */
  runMs: number
  rowMs: number
  /** For each position that a row attends to. */
  positionMs: number
}

/** What merging changes, as measured. */
export interface MergeCosts {
  /** Of a run without adapter operations, however few its rows. */
  runMs: number
  /** What adapter operations add to a run. */
  adapterMs: number
  /** Share of a second run's time that a step waits for: two runs fill each other's gaps. */
  overlap: number
}

/** Fewer steps than this say nothing. */
export const LEAST_STEPS = 20

const predicted = (costs: RunCosts, of: Steps): number =>
  of.count * costs.runMs + of.rows * costs.rowMs + of.positions * costs.positionMs

/**
 * Costs from what a window shows, on top of the runs timed at the start. Steps of the base alone, where there are any,
 * tell how much slower or faster the machine is now.
 * @param before what was last known: adapter operations are no longer seen once everything is merged
 * @returns null while nothing is known of adapter operations
 */
export function measureCosts(
  runs: RunCosts,
  { plain, banked, split }: Traffic,
  before: MergeCosts | null,
): MergeCosts | null {
  const pace = plain.count >= LEAST_STEPS ? plain.ms / predicted(runs, plain) : 1
  const beyond = (of: Steps): number => of.ms - pace * predicted(runs, of)
  const runMs = pace * runs.runMs
  const adapterMs =
    banked.count >= LEAST_STEPS ? Math.max(0, beyond(banked) / banked.count) : before?.adapterMs
  if (adapterMs === undefined) return null
  const second = split.extraRuns * runMs + split.adapted * adapterMs
  const overlap =
    split.count >= LEAST_STEPS
      ? Math.min(1, Math.max(0, beyond(split) / second))
      : (before?.overlap ?? 1)
  return { runMs, adapterMs, overlap }
}

/**
 * Milliseconds that a window's steps take less when the adapter is merged than when it is not: each step with its rows
 * saves the adapter operations, and each that has rows of others pays for a second run.
 */
export const gainMs = (
  { runMs, adapterMs, overlap }: MergeCosts,
  { count, mixed, mixedAdapted }: AdapterSteps,
): number => count * adapterMs - overlap * (mixed * runMs + mixedAdapted * adapterMs)

import type { Digest } from '@graft/sdk/format/digest.ts'
import { gainMs, LEAST_STEPS, type MergeCosts } from './step-costs.ts'
import type { Traffic } from './traffic.ts'

export interface MergePolicyInput {
  /** Decode steps of the window. */
  traffic: Traffic
  costs: MergeCosts
  /** Forms that take traffic. */
  merged: readonly Digest[]
  /** Adapters that cannot be merged, or were refused a short while ago. */
  barred: ReadonlySet<Digest>
  /** Forms that still fit the budget. */
  room: number
  /** Milliseconds that serving loses to one rebuild. */
  rebuildMs: number
}

export type MergeDecision =
  | { do: 'merge' | 'unmerge'; digest: Digest; gainMs: number }
  | { do: 'nothing' }

/** A smaller share of the window's time is within the noise of measured steps. */
export const LEAST_GAIN = 0.03

/**
 * What to do after a window, on the assumption that the next is like it. An adapter is merged when the window would have
 * been shorter by more than a rebuild costs, and unmerged when it would have been shorter without its form: between the
 * two it stays as it is. With no room, it takes the place of a form that is worth less by more than a rebuild. A form
 * without traffic costs nothing and stays until its room is needed.
 */
export function decideMerge(input: MergePolicyInput): MergeDecision {
  const { traffic, costs, merged, barred, room, rebuildMs } = input
  const gain = (digest: Digest): number => {
    const steps = traffic.adapters.get(digest)
    return steps ? gainMs(costs, steps) : 0
  }
  const worst = least(merged, gain)
  if (worst && gain(worst) < 0 && traffic.adapters.get(worst)!.count >= LEAST_STEPS)
    return { do: 'unmerge', digest: worst, gainMs: gain(worst) }

  const total = traffic.plain.ms + traffic.banked.ms + traffic.split.ms
  const candidates = [...traffic.adapters].flatMap(([digest, { count }]) =>
    count >= LEAST_STEPS && !merged.includes(digest) && !barred.has(digest) ? [digest] : [],
  )
  const best = least(candidates, (digest) => -gain(digest))
  if (!best || gain(best) < Math.max(rebuildMs, LEAST_GAIN * total)) return { do: 'nothing' }
  if (room > 0) return { do: 'merge', digest: best, gainMs: gain(best) }
  if (worst && gain(best) - gain(worst) >= rebuildMs)
    return { do: 'unmerge', digest: worst, gainMs: gain(worst) }
  return { do: 'nothing' }
}

function least(digests: readonly Digest[], of: (digest: Digest) => number): Digest | null {
  let found: Digest | null = null
  for (const digest of digests) if (found === null || of(digest) < of(found)) found = digest
  return found
}

import type { Digest } from '@graft/sdk/format/digest.ts'
import { type GraftError, isGraftError } from '@graft/sdk/format/errors.ts'
import type { AdapterPull, MergedForm, MergeStatus } from '@graft/sdk/protocol/runner-api.ts'
import type { AdmissionPolicy } from '../admission/admission.ts'
import type { MergingEngine } from '../engine/merged/merging-engine.ts'
import type { Adapters } from '../tiers/adapters.ts'
import { decideMerge } from './merge-policy.ts'
import type { NeededForms } from './merged-forms.ts'
import { proveMerged, type ScoreBase } from './prove-merged.ts'
import { type MergeCosts, measureCosts, type RunCosts } from './step-costs.ts'
import type { TrafficWindow } from './traffic.ts'

/** How a runner merges; absent = it does not. */
export interface MergingOptions {
  engine: MergingEngine
  /** Steps of the last minutes, as the engine reports them. */
  traffic: TrafficWindow
  /** Costs of a run, timed at the start, to decide by traffic; null = by request alone. */
  auto: RunCosts | null
  /** First guess of what a rebuild takes, in milliseconds: opening the base took as long. */
  rebuildMs: number
  onEvent?: (event: MergeEvent) => void
}

export type MergeEvent =
  | { event: 'merged'; digest: Digest; ms: number; why: 'request' | 'traffic' }
  | { event: 'unmerged'; digest: Digest; why: 'request' | 'traffic' }
  | { event: 'merge_refused'; digest: Digest; error: string }

export interface Merging {
  /** Resolves once new answers run merged. @throws what refuses the adapter, its merged form, or the memory for it */
  merge(pull: AdapterPull): Promise<MergedForm>
  /** Resolves once the last answer that ran merged has ended. */
  unmerge(digest: Digest): Promise<void>
  status(): MergeStatus
  /** Judges the last window; what it starts goes on when it returns. */
  judge(): void
  close(): void
}

interface MergingDeps extends MergingOptions {
  adapters: Adapters
  /** Forms that traffic neither builds nor takes out. */
  forms: NeededForms
  policy: AdmissionPolicy
  scoreBase: ScoreBase
  now: () => number
}

/** Long enough to see a share of traffic, short enough to follow it; what is merged must pay within the next one. */
export const WINDOW_MS = 120_000
export const JUDGE_MS = 5_000
/** What was refused, or taken out by an operator, is not merged by traffic for so long: a build costs cores that serve. */
const BARRED_MS = 600_000
/** On whose share of the engine goldens run. */
export const MERGING_TENANT = 'runner'

export function createMerging(deps: MergingDeps): Merging {
  const { engine, adapters, forms, policy, traffic, auto, now, onEvent } = deps
  const barred = new Map<Digest, number>()
  let { rebuildMs } = deps
  let costs: MergeCosts | null = null
  let busy = false

  async function build(pull: AdapterPull, why: 'request' | 'traffic') {
    const { signal } = new AbortController()
    // Admitted unmerged first: what is refused there is never merged, and it stays pinned meanwhile.
    const lease = await adapters.acquire([pull], MERGING_TENANT, signal)
    try {
      const { facts, tensors, logits } = await adapters.material(pull, signal)
      const form = await engine.merge(tensors, (merged) =>
        proveMerged(merged, facts, logits, policy, deps.scoreBase),
      )
      rebuildMs = form.buildMs
      onEvent?.({ event: 'merged', digest: pull.digest, ms: form.buildMs, why })
      return form
    } catch (e) {
      barred.set(pull.digest, now() + BARRED_MS)
      onEvent?.({ event: 'merge_refused', digest: pull.digest, error: textOf(e) })
      throw e
    } finally {
      lease.release()
    }
  }

  async function take(digest: Digest, why: 'request' | 'traffic'): Promise<void> {
    if (why === 'request') barred.set(digest, now() + BARRED_MS)
    await (forms.holds(digest) ? forms.free(digest) : engine.unmerge(digest))
    onEvent?.({ event: 'unmerged', digest, why })
  }

  function barredNow(): Set<Digest> {
    for (const [digest, until] of barred) if (until <= now()) barred.delete(digest)
    return new Set(barred.keys())
  }

  function judge(): void {
    if (!auto || busy) return
    const seen = traffic.read(now())
    costs = measureCosts(auto, seen, costs)
    if (!costs) return
    const decision = decideMerge({
      traffic: seen,
      costs,
      merged: engine.merged().flatMap(({ digest }) => (forms.holds(digest) ? [] : [digest])),
      barred: new Set([...barredNow(), ...forms.entries()]),
      room: engine.mergeRoom(),
      rebuildMs,
    })
    if (decision.do === 'nothing') return
    const { digest } = decision
    const pull = { digest, weight: '1', label: digest, capability: null }
    busy = true
    const work = decision.do === 'merge' ? build(pull, 'traffic') : take(digest, 'traffic')
    work.then(
      () => {
        busy = false
      },
      () => {
        busy = false
      },
    )
  }

  const timer = auto ? setInterval(judge, JUDGE_MS) : undefined
  timer?.unref()

  return {
    merge: (pull) => build(pull, 'request'),
    unmerge: (digest) => take(digest, 'request'),
    status: () => ({
      byTraffic: auto !== null,
      room: engine.mergeRoom(),
      forms: engine.merged(),
      barred: [...barredNow()],
    }),
    judge,
    close: () => clearInterval(timer),
  }
}

const textOf = (e: unknown): string =>
  isGraftError(e) ? `${(e as GraftError).code}: ${e.message}` : String(e)

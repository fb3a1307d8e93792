import type { Digest } from '@graft/sdk/format/digest.ts'
import { GraftError, isGraftError } from '@graft/sdk/format/errors.ts'
import type { MergingEngine } from '../engine/merged/merging-engine.ts'
import { BANK_WAIT_MS } from '../tiers/bank.ts'
import type { FormBuild, MergedForms } from '../tiers/merged-forms.ts'
import { createShareWork } from '../tiers/share-work.ts'

/** Forms that serve adapters which cannot be served otherwise, on the same engine and memory as those that pay by traffic. */
export interface NeededForms extends MergedForms {
  /** Whether the adapter's form is one of these. */
  holds(digest: Digest): boolean
  /** Takes a form out after the last who pinned it; the next who asks has it built again. */
  free(digest: Digest): Promise<void>
}

const full = (): GraftError =>
  new GraftError(
    'ERR_BANK_FULL',
    'every merged base is in use; try again shortly, or start the runner with more memory for them (--merge <MiB>)',
    { retryAfter: 1 },
  )

interface Entry {
  pins: number
  /** Nobody pins it any more: it goes. */
  leaving: boolean
}

type Forms = Pick<MergingEngine, 'merge' | 'unmerge' | 'merged' | 'mergeRoom'>

export function createMergedForms(engine: Forms, waitMs = BANK_WAIT_MS): NeededForms {
  /** Least recently used first. */
  const entries = new Map<Digest, Entry>()
  const waiters = new Set<() => void>()
  const shareBuild = createShareWork<Digest, void>()
  let queue: Promise<unknown> = Promise.resolve()

  const stands = (digest: Digest): boolean => engine.merged().some((form) => form.digest === digest)

  const use: MergedForms['use'] = (digest) => {
    const entry = entries.get(digest)
    if (!entry || entry.leaving || !stands(digest)) return null
    entry.pins++
    entries.delete(digest)
    entries.set(digest, entry)
    let held = true
    return () => {
      if (held) entry.pins--
      held = false
      for (const wake of [...waiters]) wake()
    }
  }

  /** Resolves when something was released, or `until` has come. */
  function released(until: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer)
        waiters.delete(done)
        signal?.removeEventListener('abort', done)
        resolve()
      }
      const left = until - performance.now()
      const timer = Number.isFinite(left) ? setTimeout(done, Math.max(0, left)) : undefined
      waiters.add(done)
      signal?.addEventListener('abort', done)
    })
  }

  /** The form that goes next: the longest unused of these, else one that only saves time. */
  function idle(): Digest | null {
    const own = [...entries].find(([digest, { pins }]) => pins === 0 && stands(digest))
    return own?.[0] ?? engine.merged().find(({ digest }) => !entries.has(digest))?.digest ?? null
  }

  async function makeRoom(until: number, signal: AbortSignal): Promise<void> {
    while (engine.mergeRoom() < 1) {
      signal.throwIfAborted()
      const digest = idle()
      if (digest) {
        entries.delete(digest)
        // Its last answers may take long; what waits here does not wait for all of them.
        const gone = engine.unmerge(digest).finally(() => [...waiters].forEach((wake) => wake()))
        await Promise.race([gone, released(until, signal)])
      } else await released(until, signal)
      if (engine.mergeRoom() < 1 && performance.now() >= until) throw full()
    }
  }

  async function build(digest: Digest, work: FormBuild, signal: AbortSignal): Promise<void> {
    const until = performance.now() + waitMs
    for (;;) {
      await makeRoom(until, signal)
      try {
        const adapter = await work.adapter(signal)
        await engine.merge(adapter, (merged) => work.prove(merged, signal))
        break
      } catch (e) {
        if (!isGraftError(e) || e.code !== 'ERR_BANK_FULL') throw e
        // Another form took the room meanwhile: one that traffic asked for.
        if (performance.now() >= until) throw full()
      }
    }
    entries.set(digest, { pins: 0, leaving: false })
    // Held for this turn, so that those who waited pin it before somebody else's build takes it out again.
    const held = use(digest)
    setImmediate(() => held?.())
  }

  /** One at a time: two builds could otherwise each take the other's form out. */
  const exclusive = <T>(work: () => Promise<T>): Promise<T> => {
    const result = queue.then(work)
    queue = result.catch(() => {})
    return result
  }

  return {
    use,
    async pin(digest, work, signal) {
      for (;;) {
        const release = use(digest)
        if (release) return release
        await shareBuild(digest, signal, (shared) => exclusive(() => build(digest, work, shared)))
      }
    },
    entries: () => [...entries.keys()].filter(stands),
    holds: (digest) => entries.has(digest),
    async free(digest) {
      const entry = entries.get(digest)
      if (!entry) return
      entry.leaving = true
      while (entry.pins > 0) await released(Number.POSITIVE_INFINITY)
      await engine.unmerge(digest)
      if (entries.get(digest) === entry) entries.delete(digest)
    },
  }
}

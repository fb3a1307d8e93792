import type { Digest } from '@graft/sdk/format/digest.ts'
import { GraftError, isGraftError } from '@graft/sdk/format/errors.ts'
import type { Engine, LoadedAdapter } from '../engine/engine.ts'

/** What stands in the engine's bank. An adapter with a pin is never evicted; others leave least recently used first. */
export interface Bank {
  /**
   * Makes the adapter resident and pins it; the function takes the pin away.
   * Waits for others to leave when all of the bank is pinned.
   * @throws ERR_BANK_FULL after waitMs, and what the engine refuses
   */
  pin(adapter: LoadedAdapter, signal: AbortSignal): Promise<() => void>
  has(digest: Digest): boolean
  /** Takes an adapter out that must not be used. It must have no pins. */
  evict(digest: Digest): Promise<void>
  entries(): { digest: Digest; bytes: number; pins: number }[]
}

/** Longer than most answers of a small model; past it another runner is the better place. */
export const BANK_WAIT_MS = 10_000

interface Entry {
  digest: Digest
  bytes: number
  pins: number
}

export function createBank(engine: Engine, options: { waitMs?: number } = {}): Bank {
  const { waitMs = BANK_WAIT_MS } = options
  /** In order of use: the first is the one to leave. */
  const entries = new Map<Digest, Entry>()
  const waiters = new Set<() => void>()
  let queue: Promise<unknown> = Promise.resolve()

  /** Loads and evictions one at a time, in order: two of them could otherwise each evict for the other. */
  const exclusive = <T>(work: () => Promise<T>): Promise<T> => {
    const result = queue.then(work)
    queue = result.catch(() => {})
    return result
  }

  const take = (entry: Entry): (() => void) => {
    entry.pins++
    entries.delete(entry.digest)
    entries.set(entry.digest, entry)
    let taken = true
    return () => {
      if (!taken) return
      taken = false
      if (--entry.pins === 0) for (const wake of waiters) wake()
    }
  }

  async function makeRoom(signal: AbortSignal, until: number): Promise<void> {
    for (const entry of entries.values()) {
      if (entry.pins > 0) continue
      entries.delete(entry.digest)
      await engine.unload(entry.digest)
      return
    }
    const left = until - performance.now()
    if (left <= 0)
      throw new GraftError(
        'ERR_BANK_FULL',
        `every adapter in the bank (${engine.info.bankBudgetBytes} bytes) is in use; try again shortly`,
        { retryAfter: 1 },
      )
    await new Promise<void>((resolve) => {
      const done = (): void => {
        clearTimeout(timer)
        waiters.delete(done)
        signal.removeEventListener('abort', done)
        resolve()
      }
      const timer = setTimeout(done, left)
      waiters.add(done)
      signal.addEventListener('abort', done)
    })
  }

  async function load(adapter: LoadedAdapter, signal: AbortSignal): Promise<Entry> {
    const until = performance.now() + waitMs
    for (;;) {
      signal.throwIfAborted()
      try {
        const { bytes } = await engine.load(adapter)
        const entry = { digest: adapter.digest, bytes, pins: 0 }
        entries.set(adapter.digest, entry)
        return entry
      } catch (e) {
        // With an empty bank no eviction helps: the adapter is larger than all of it.
        if (!isGraftError(e) || e.code !== 'ERR_BANK_FULL' || entries.size === 0) throw e
        await makeRoom(signal, until)
      }
    }
  }

  return {
    async pin(adapter, signal) {
      const resident = entries.get(adapter.digest)
      if (resident) return take(resident)
      return exclusive(async () =>
        take(entries.get(adapter.digest) ?? (await load(adapter, signal))),
      )
    },
    has: (digest) => entries.has(digest),
    evict: (digest) =>
      exclusive(async () => {
        const entry = entries.get(digest)
        if (!entry || entry.pins > 0) return
        entries.delete(digest)
        await engine.unload(digest)
      }),
    entries: () => [...entries.values()].map((entry) => ({ ...entry })),
  }
}

import type { Digest } from '@graft/sdk/format/digest.ts'
import { GraftError, isGraftError } from '@graft/sdk/format/errors.ts'
import type { Engine, LoadedAdapter } from '../engine/engine.ts'
import type { AdapterFacts } from './adapter-facts.ts'
import { ByteBudget } from './byte-budget.ts'

/** What stands in the engine's bank. An adapter with a pin is never evicted; others leave in the order of ByteBudget. */
export interface Bank {
  /** Pins an adapter that is resident; null when it is not. */
  use(digest: Digest): { facts: AdapterFacts; release: () => void } | null
  /**
   * Makes the adapter resident and pins it; the function takes the pin away. Room is made before its tensors are
   * asked for. Waits for others to leave when all of the bank is pinned.
   * @throws ERR_BANK_FULL after waitMs, and what the engine refuses
   */
  pin(
    facts: AdapterFacts,
    tensors: () => Promise<LoadedAdapter>,
    signal: AbortSignal,
  ): Promise<() => void>
  has(digest: Digest): boolean
  /** Takes an adapter out that must not be used. One with a pin stays. */
  evict(digest: Digest): Promise<void>
  entries(): { digest: Digest; bytes: number; pins: number }[]
}

/** Longer than most answers of a small model; past it another runner is the better place. */
export const BANK_WAIT_MS = 10_000

export function createBank(engine: Engine, options: { waitMs?: number } = {}): Bank {
  const { waitMs = BANK_WAIT_MS } = options
  const budget = new ByteBudget<Digest>(engine.info.bankBudgetBytes)
  const resident = new Map<Digest, AdapterFacts>()
  /** Bytes in the bank per byte of f32, by kinds of operations, as the engine told them last. */
  const growth = new Map<string, number>()
  const waiters = new Set<() => void>()
  let queue: Promise<unknown> = Promise.resolve()

  /** Loads and evictions one at a time, in order: two of them could otherwise each evict for the other. */
  const exclusive = <T>(work: () => Promise<T>): Promise<T> => {
    const result = queue.then(work)
    queue = result.catch(() => {})
    return result
  }

  const use: Bank['use'] = (digest) => {
    const facts = resident.get(digest)
    const unpin = budget.pin(digest)
    if (!facts || !unpin) return null
    return {
      facts,
      release: () => {
        unpin()
        for (const wake of waiters) wake()
      },
    }
  }

  async function unload(digest: Digest): Promise<void> {
    resident.delete(digest)
    budget.remove(digest)
    await engine.unload(digest)
  }

  /** Takes the next one out. @returns false when all that is left is pinned */
  async function evictNext(): Promise<boolean> {
    const digest = budget.next()
    if (digest === undefined) return false
    await unload(digest)
    return true
  }

  async function waitForRoom(signal: AbortSignal, until: number): Promise<void> {
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

  /**
   * What the engine will ask for is known from its last answer for such operations. Made free beforehand, so that
   * tensors never stand beside a full bank and the engine need not refuse what it has just compiled.
   */
  async function makeRoom(bytes: number): Promise<void> {
    while (budget.used + bytes > budget.limit && (await evictNext()));
  }

  async function load(
    facts: AdapterFacts,
    tensors: () => Promise<LoadedAdapter>,
    signal: AbortSignal,
  ): Promise<void> {
    const until = performance.now() + waitMs
    const kinds = facts.operations.map(({ op }) => op).join()
    await makeRoom(facts.f32Bytes * (growth.get(kinds) ?? 1))
    for (;;) {
      signal.throwIfAborted()
      try {
        const { bytes } = await engine.load(await tensors())
        budget.add(facts.digest, bytes)
        resident.set(facts.digest, facts)
        growth.set(kinds, bytes / Math.max(facts.f32Bytes, 1))
        return
      } catch (e) {
        // With an empty bank no eviction helps: the adapter is larger than all of it.
        if (!isGraftError(e) || e.code !== 'ERR_BANK_FULL' || resident.size === 0) throw e
        if (!(await evictNext())) await waitForRoom(signal, until)
      }
    }
  }

  return {
    use,
    async pin(facts, tensors, signal) {
      const held = use(facts.digest)
      if (held) return held.release
      return exclusive(async () => {
        if (!resident.has(facts.digest)) await load(facts, tensors, signal)
        return use(facts.digest)!.release
      })
    },
    has: (digest) => resident.has(digest),
    evict: (digest) =>
      exclusive(async () => {
        const pinned = budget.entries().some(({ key, pins }) => key === digest && pins > 0)
        if (resident.has(digest) && !pinned) await unload(digest)
      }),
    entries: () => budget.entries().map(({ key, ...rest }) => ({ digest: key, ...rest })),
  }
}

import type { Digest } from '@graft/sdk/format/digest.ts'
import { GraftError, isGraftError } from '@graft/sdk/format/errors.ts'
import type { Engine, LoadedAdapter } from '../engine/engine.ts'
import type { AdapterFacts } from './adapter-facts.ts'
import { ByteBudget } from './byte-budget.ts'
import { createShareWork } from './share-work.ts'

/** An adapter in memory that is somebody else's; an engine keeps nothing of it. */
export interface BorrowedTensors {
  adapter: LoadedAdapter
  giveBack(): void
}

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
    tensors: () => Promise<BorrowedTensors>,
    signal: AbortSignal,
  ): Promise<() => void>
  has(digest: Digest): boolean
  /** Takes an adapter out that must not be used. One with a pin stays. */
  evict(digest: Digest): Promise<void>
  entries(): { digest: Digest; bytes: number; pins: number }[]
}

/** Longer than most answers of a small model; past it another runner is the better place. */
export const BANK_WAIT_MS = 10_000

export interface BankOptions {
  /** @default BANK_WAIT_MS */
  waitMs?: number
  /** An adapter came in, after so long in the engine and before it in the loader. */
  onLoad?: (load: { digest: Digest; ms: number }) => void
  onEvict?: (digest: Digest) => void
}

/** The part of an engine that a bank needs. */
export type BankEngine = Pick<Engine, 'load' | 'unload'> & {
  info: Pick<Engine['info'], 'bankBudgetBytes'>
}

export function createBank(engine: BankEngine, options: BankOptions = {}): Bank {
  const { waitMs = BANK_WAIT_MS, onLoad, onEvict } = options
  const budget = new ByteBudget<Digest>(engine.info.bankBudgetBytes)
  const resident = new Map<Digest, AdapterFacts>()
  /** Bytes in the bank per byte of f32 that is compiled, by kinds of operations, as the engine told them last. */
  const growth = new Map<string, number>()
  const shareLoad = createShareWork<Digest, void>()
  /** Loads that have not ended, also those that nobody waits for any more: what is in the engine's hands comes in. */
  const entering = new Map<Digest, Promise<void>>()
  const waiters = new Set<() => void>()
  let queue: Promise<unknown> = Promise.resolve()

  /** Room is made for one at a time, in order: two could otherwise each evict for the other. Loads run side by side. */
  const exclusive = <T>(work: () => Promise<T>): Promise<T> => {
    const result = queue.then(work)
    queue = result.catch(() => {})
    return result
  }
  const wakeAll = (): void => {
    for (const wake of waiters) wake()
  }

  const use: Bank['use'] = (digest) => {
    const facts = resident.get(digest)
    const unpin = budget.pin(digest)
    if (!facts || !unpin) return null
    return {
      facts,
      release: () => {
        unpin()
        wakeAll()
      },
    }
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

  /** Takes bytes before there is anything to fill them with; who leaves for them is out of the engine by then. */
  async function claim(bytes: number, signal: AbortSignal, until: number): Promise<void> {
    for (;;) {
      signal.throwIfAborted()
      const leaving = budget.claim(bytes)
      // All at once: who asks for the last of them while the first leaves must find that it is gone.
      for (const digest of leaving ?? []) resident.delete(digest)
      for (const digest of leaving ?? []) {
        await engine.unload(digest)
        onEvict?.(digest)
      }
      if (leaving) return
      await waitForRoom(signal, until)
    }
  }

  /** What the engine will ask for is known from its last answer for such operations; unknown kinds count as f32. */
  const estimate = ({ operations, runBytes }: AdapterFacts): number => {
    const kinds = operations.map(({ op }) => op).join()
    return Math.min(budget.limit, Math.ceil(runBytes * (growth.get(kinds) ?? 1)))
  }

  /**
   * One load of an adapter after the other. Were a second one under way beside one that was abandoned, the first to end
   * would make the adapter resident and the second would do so again, over the pins of those who use it.
   */
  function load(
    facts: AdapterFacts,
    tensors: () => Promise<BorrowedTensors>,
    signal: AbortSignal,
  ): Promise<void> {
    const { digest } = facts
    const before = entering.get(digest) ?? Promise.resolve()
    const result = before.then(() =>
      resident.has(digest) ? undefined : loadNow(facts, tensors, signal),
    )
    const ended = result
      .catch(() => {})
      .then(() => {
        if (entering.get(digest) === ended) entering.delete(digest)
      })
    entering.set(digest, ended)
    return result
  }

  async function loadNow(
    facts: AdapterFacts,
    tensors: () => Promise<BorrowedTensors>,
    signal: AbortSignal,
  ): Promise<void> {
    const until = performance.now() + waitMs
    let taken = 0
    const take = async (bytes: number): Promise<void> => {
      await exclusive(() => claim(bytes, signal, until))
      taken += bytes
    }
    try {
      await take(estimate(facts))
      for (;;) {
        signal.throwIfAborted()
        const started = performance.now()
        try {
          const { adapter, giveBack } = await tensors()
          const { bytes } = await engine.load(adapter).finally(giveBack)
          budget.cancel(taken)
          taken = 0
          budget.add(facts.digest, bytes)
          resident.set(facts.digest, facts)
          // Held for this turn, so that those who waited pin it before somebody else's claim takes it out again.
          const held = use(facts.digest)
          setImmediate(() => held?.release())
          const kinds = facts.operations.map(({ op }) => op).join()
          growth.set(kinds, bytes / Math.max(facts.runBytes, 1))
          onLoad?.({ digest: facts.digest, ms: performance.now() - started })
          return
        } catch (e) {
          if (!isGraftError(e) || e.code !== 'ERR_BANK_FULL') throw e
          // With an empty bank no eviction helps: the adapter is larger than all of it.
          if (budget.used === taken) throw e
          // The estimate was too low. What was taken is given back first: nobody waits for more with something in hand.
          const more = Math.min(budget.limit, Math.max(1, 2 * taken))
          budget.cancel(taken)
          taken = 0
          await take(more)
        }
      }
    } finally {
      budget.cancel(taken)
      wakeAll()
    }
  }

  return {
    use,
    async pin(facts, tensors, signal) {
      for (;;) {
        const held = use(facts.digest)
        if (held) return held.release
        await shareLoad(facts.digest, signal, (shared) => load(facts, tensors, shared))
      }
    },
    has: (digest) => resident.has(digest),
    evict: (digest) =>
      exclusive(async () => {
        const pinned = budget.entries().some(({ key, pins }) => key === digest && pins > 0)
        if (!resident.has(digest) || pinned) return
        budget.remove(digest)
        resident.delete(digest)
        await engine.unload(digest)
        wakeAll()
      }),
    entries: () => budget.entries().map(({ key, ...rest }) => ({ digest: key, ...rest })),
  }
}

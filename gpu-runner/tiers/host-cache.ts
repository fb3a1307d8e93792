import type { Digest } from '@graft/sdk/format/digest.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import type { AdapterFacts } from './adapter-facts.ts'
import { ByteBudget } from './byte-budget.ts'

/** A proven adapter as it was published: smaller than what a bank makes of it, and any bank can be filled from it. */
export interface HostAdapter {
  facts: AdapterFacts
  /** The version record, as the registry sent it. */
  record: Uint8Array
  /** adapter.safetensors in shared memory, so that the loader's threads read it without a copy. */
  file: Uint8Array
}

/** Bytes of the tier for something on its way; exactly one of the two must be called. */
export interface HostClaim {
  put(adapter: HostAdapter): void
  cancel(): void
}

/** Verified adapters in host memory, within a budget of bytes that downloads under way count against. */
export interface HostCache {
  /** Held in place until the function is called; null when absent. */
  use(digest: Digest): { adapter: HostAdapter; release: () => void } | null
  /**
   * Takes bytes before they come; waits, first come first served, while what is pinned or on its way fills the tier.
   * @throws ERR_BANK_FULL when it can never fit, or did not within waitMs
   */
  claim(bytes: number, signal: AbortSignal): Promise<HostClaim>
  remove(digest: Digest): void
  entries(): { digest: Digest; bytes: number }[]
  /** Bytes held and on their way. */
  readonly usedBytes: number
}

/** As long as a request waits for the bank; past it another runner is the better place. */
export const HOST_WAIT_MS = 10_000

export interface HostCacheOptions {
  /** @default HOST_WAIT_MS */
  waitMs?: number
  /** For messages. @default "an adapter" */
  what?: string
}

export function createHostCache(
  budgetBytes: number,
  { waitMs = HOST_WAIT_MS, what = 'an adapter' }: HostCacheOptions = {},
): HostCache {
  const budget = new ByteBudget<Digest>(budgetBytes)
  const held = new Map<Digest, HostAdapter>()
  const waiting: { bytes: number; go: () => void }[] = []

  const take = (bytes: number): boolean => {
    const leaving = budget.claim(bytes)
    for (const digest of leaving ?? []) held.delete(digest)
    return leaving !== null
  }
  /** Something became free: whoever waits longest goes first, so that a large one is not passed for ever. */
  const settle = (): void => {
    while (waiting[0] && take(waiting[0].bytes)) waiting.shift()!.go()
  }

  async function room(bytes: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    if (bytes > budgetBytes)
      throw new GraftError(
        'ERR_BANK_FULL',
        expected(`${what} in host memory`, `at most ${budgetBytes} bytes`, bytes),
      )
    if (waiting.length === 0 && take(bytes)) return
    await new Promise<void>((resolve, reject) => {
      const stop = (): void => {
        clearTimeout(timer)
        signal.removeEventListener('abort', abort)
      }
      const leave = (error: unknown): void => {
        stop()
        waiting.splice(waiting.indexOf(entry), 1)
        reject(error)
        settle()
      }
      const entry = {
        bytes,
        go: () => {
          stop()
          resolve()
        },
      }
      const abort = (): void => leave(signal.reason)
      const timer = setTimeout(
        () =>
          leave(
            new GraftError(
              'ERR_BANK_FULL',
              `all ${budgetBytes} bytes of host memory for ${what} are in use or on their way; try again shortly`,
              { retryAfter: 1 },
            ),
          ),
        waitMs,
      )
      signal.addEventListener('abort', abort)
      waiting.push(entry)
    })
  }

  return {
    use(digest) {
      const adapter = held.get(digest)
      const unpin = budget.pin(digest)
      if (!adapter || !unpin) return null
      return {
        adapter,
        release: () => {
          unpin()
          settle()
        },
      }
    },
    async claim(bytes, signal) {
      await room(bytes, signal)
      return {
        put(adapter) {
          const { digest } = adapter.facts
          budget.commit(digest, bytes)
          held.set(digest, adapter)
          // Held for this turn, so that whoever it came for takes it before somebody else's claim does.
          const unpin = budget.pin(digest)
          setImmediate(() => {
            unpin?.()
            settle()
          })
        },
        cancel() {
          budget.cancel(bytes)
          settle()
        },
      }
    },
    remove(digest) {
      held.delete(digest)
      budget.remove(digest)
      settle()
    },
    entries: () => budget.entries().map(({ key, bytes }) => ({ digest: key, bytes })),
    get usedBytes() {
      return budget.used
    },
  }
}

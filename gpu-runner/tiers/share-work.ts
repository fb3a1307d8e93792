/** Runs work under a key once at a time; whoever asks meanwhile waits for the same result. */
export type ShareWork<K, T> = (
  key: K,
  signal: AbortSignal,
  work: (signal: AbortSignal) => Promise<T>,
) => Promise<T>

/** One who stops waiting stops nobody else; the work is aborted when the last one has left. */
export function createShareWork<K, T>(): ShareWork<K, T> {
  const running = new Map<K, { result: Promise<T>; abort: AbortController; waiting: number }>()
  return async (key, signal, work) => {
    signal.throwIfAborted()
    let shared = running.get(key)
    if (!shared) {
      const abort = new AbortController()
      const result = work(abort.signal).finally(() => {
        if (running.get(key)?.result === result) running.delete(key)
      })
      // Everybody may have left before it fails.
      result.catch(() => {})
      shared = { result, abort, waiting: 0 }
      running.set(key, shared)
    }
    const { result, abort } = shared
    const entry = shared
    entry.waiting++
    let leave: () => void = () => {}
    const left = new Promise<never>((_, reject) => {
      leave = () => reject(signal.reason)
      signal.addEventListener('abort', leave)
    })
    try {
      return await Promise.race([result, left])
    } finally {
      signal.removeEventListener('abort', leave)
      if (--entry.waiting === 0 && signal.aborted) {
        running.delete(key)
        abort.abort(signal.reason)
      }
    }
  }
}

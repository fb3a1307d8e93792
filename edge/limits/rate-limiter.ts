import { GraftError } from '@graft/sdk/format/errors.ts'

const WINDOW_MS = 60_000

/** Exact sliding window per key: at most `limit` starts in any 60 seconds, in this process. */
export interface RateLimiter {
  /** @throws ERR_RATE_LIMITED, with the seconds after which the same call would be let in */
  admit(key: string): void
  remaining(key: string): number
}

export function createRateLimiter(limit: number, clock: () => Date): RateLimiter {
  const starts = new Map<string, number[]>()
  let swept = 0
  function recent(key: string, now: number): number[] {
    const kept = (starts.get(key) ?? []).filter((at) => at > now - WINDOW_MS)
    starts.set(key, kept)
    return kept
  }
  /** Keys that went quiet are dropped once a window. */
  function sweep(now: number): void {
    if (now - swept < WINDOW_MS) return
    swept = now
    for (const [key, times] of starts)
      if ((times.at(-1) ?? 0) <= now - WINDOW_MS) starts.delete(key)
  }
  return {
    admit(key) {
      const now = clock().getTime()
      sweep(now)
      const times = recent(key, now)
      if (times.length >= limit) {
        const retryAfter = Math.max(1, Math.ceil((times[0]! + WINDOW_MS - now) / 1000))
        throw new GraftError(
          'ERR_RATE_LIMITED',
          `this token may start ${limit} calls in 60 seconds; try again in ${retryAfter} s`,
          { retryAfter },
        )
      }
      times.push(now)
    },
    remaining: (key) => Math.max(0, limit - recent(key, clock().getTime()).length),
  }
}

/** Events per second over the last whole seconds of a sliding window; `now` in milliseconds. */
export interface RateMeter {
  add(count: number, now: number): void
  /** In the window. */
  count(now: number): number
  /** 0 when nothing happened in the window. */
  perSecond(now: number): number
}

/** Long enough to smooth steps, short enough that an edge sees a change within a few heartbeats. */
export const RATE_WINDOW_MS = 10_000

export function createRateMeter(windowMs = RATE_WINDOW_MS): RateMeter {
  const events: { at: number; count: number }[] = []
  let sum = 0
  const expire = (now: number): void => {
    while (events.length > 0 && events[0]!.at <= now - windowMs) sum -= events.shift()!.count
  }
  return {
    add(count, now) {
      expire(now)
      const last = events.at(-1)
      if (last && now - last.at < windowMs / 100) last.count += count
      else events.push({ at: now, count })
      sum += count
    },
    count(now) {
      expire(now)
      return sum
    },
    perSecond(now) {
      expire(now)
      if (events.length === 0) return 0
      // A window that has just begun is judged by its own length, not by the silence before it.
      return sum / (Math.max(now - events[0]!.at, 1_000) / 1_000)
    },
  }
}

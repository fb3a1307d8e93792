/** A server that asks for more patience than this is believed, and its error goes to the caller instead. */
export const MAX_RETRY_AFTER_SECONDS = 60

const BACKOFF_BASE_MS = 250
const BACKOFF_CAP_MS = 8_000

/** Seconds until the server wants to be asked again; null when it did not say. `now` in Unix ms. */
export function retryAfterSeconds(headers: Headers, now: number): number | null {
  const text = headers.get('retry-after')?.trim()
  if (!text) return null
  if (/^\d+(\.\d+)?$/.test(text)) return Number(text)
  const at = Date.parse(text)
  return Number.isNaN(at) ? null : Math.max(0, (at - now) / 1000)
}

/** Milliseconds before attempt `attempt` + 1; `random` in [0, 1) spreads clients by up to a quarter. */
export function backoffMs(attempt: number, retryAfter: number | null, random: number): number {
  if (retryAfter !== null) return retryAfter * 1000
  const full = Math.min(BACKOFF_CAP_MS, BACKOFF_BASE_MS * 2 ** attempt)
  return full * (1 - random / 4)
}

/**
 * 429 and 503 mean "not now, nothing happened"; a 409 that says when to come back means that the same call, begun
 * before a connection was lost, is still at work. Everything else is an answer.
 */
export const isRetryable = (status: number, retryAfter: number | null): boolean =>
  status === 429 || status === 503 || (status === 409 && retryAfter !== null)

import { GraftError } from '@graft/sdk/format/errors.ts'
import type { Revocations } from '@graft/sdk/protocol/registry-api.ts'
import * as z from 'zod'

/** Milliseconds after which revocations are asked for again, well inside the promised 10 s. */
export const REVOCATIONS_FRESH_MS = 4_000
/** Milliseconds for which an unreachable registry's last list still counts: an outage there must not stop calls here. */
export const REVOCATIONS_KEPT_MS = 10 * 60_000
/** Keys change rarely; an unknown kid asks again at once, but not more often than the list above. */
const KEYS_FRESH_MS = 5 * 60_000

/** What the edge knows of its token issuer. */
export interface Issuer {
  /** Keys that sign access tokens. `kid` unknown to the cached set makes it ask again. */
  keys(kid: string | undefined): Promise<JsonWebKey[]>
  revocations(): Promise<Revocations>
}

const keySetSchema = z.object({ keys: z.array(z.looseObject({ kty: z.string() })) })
const revocationsSchema = z.object({
  tokens: z.array(z.string()),
  epochs: z.record(z.string(), z.number()),
})

export interface IssuerFeedOptions {
  registryUrl: string
  fetch: typeof fetch
  clock: () => Date
}

/** Keys and revocations by fetch, cached; tokens are then verified without a network read. */
export function createIssuerFeed({ registryUrl, fetch, clock }: IssuerFeedOptions): Issuer & {
  /** Asks for both now; a failure leaves what was known. */
  refresh(): Promise<void>
} {
  async function get<T>(path: string, schema: z.ZodType<T>): Promise<T> {
    const response = await fetch(new URL(path, registryUrl)).catch((cause: unknown) => {
      throw unreachable(path, 'no answer', cause)
    })
    if (!response.ok) throw unreachable(path, `status ${response.status}`)
    const parsed = schema.safeParse(await response.json().catch(() => null))
    if (!parsed.success) throw unreachable(path, `a body that is not understood`, parsed.error)
    return parsed.data
  }
  const unreachable = (path: string, got: string, cause?: unknown) =>
    new GraftError('ERR_UNREACHABLE', `the registry gave ${got} for ${path}; try again shortly`, {
      cause,
      retryAfter: 5,
    })
  const keySet = cached(() => get('/.well-known/jwks.json', keySetSchema), clock)
  const revoked = cached(() => get('/v1/revocations', revocationsSchema), clock)
  return {
    async keys(kid) {
      const { keys } = await keySet.get(KEYS_FRESH_MS, Number.POSITIVE_INFINITY)
      if (kid === undefined || keys.some((key) => key['kid'] === kid)) return keys as JsonWebKey[]
      const fresh = await keySet.get(REVOCATIONS_FRESH_MS, Number.POSITIVE_INFINITY)
      return fresh.keys as JsonWebKey[]
    },
    revocations: () => revoked.get(REVOCATIONS_FRESH_MS, REVOCATIONS_KEPT_MS),
    async refresh() {
      await Promise.allSettled([keySet.get(0, KEYS_FRESH_MS), revoked.get(0, REVOCATIONS_KEPT_MS)])
    },
  }
}

/** One value, asked for again once older than `fresh`; if that fails, the last one serves until older than `kept`. */
function cached<T>(load: () => Promise<T>, clock: () => Date) {
  let last: { value: T; at: number } | null = null
  let loading: Promise<T> | null = null
  async function reload(): Promise<T> {
    const value = await load()
    last = { value, at: clock().getTime() }
    return value
  }
  return {
    async get(fresh: number, kept: number): Promise<T> {
      const age = last ? clock().getTime() - last.at : Number.POSITIVE_INFINITY
      if (last && age < fresh) return last.value
      loading ??= reload().finally(() => {
        loading = null
      })
      try {
        return await loading
      } catch (error) {
        if (last && age < kept) return last.value
        throw error
      }
    },
  }
}

import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import type { JWK } from 'jose'
import * as z from 'zod'
import { readAll } from '../../stores/blob-store.ts'

/** Milliseconds for which an issuer's keys are not asked for again. */
const FRESH_MS = 10 * 60_000
/** A key that is not among them asks again, but not more often than this, whoever sends what. */
const RETRY_MS = 30_000
/** Milliseconds for which the last keys still count while the issuer cannot be reached. */
const KEPT_MS = 24 * 3_600_000
const TIMEOUT_MS = 5_000
/** Bytes: of a discovery document and of a key set; the largest issuers' are 10 KB. */
const MAX_BYTES = 256 * 1024
const MAX_KEYS = 100

const address = z.string().max(2000)
const discoverySchema = z.looseObject({
  issuer: z.string(),
  jwks_uri: address,
  authorization_endpoint: address.optional(),
  token_endpoint: address.optional(),
})
const keySetSchema = z.looseObject({
  keys: z.array(z.looseObject({ kty: z.string(), kid: z.string().optional() })).max(MAX_KEYS),
})

export interface IssuerKeys {
  /** The issuer's key of that id; null when it has none. @throws ERR_UNREACHABLE */
  find(issuer: string, kid: string): Promise<JWK | null>
  /** Where it signs people in. @throws ERR_UNREACHABLE, also when it does not say */
  endpoints(issuer: string): Promise<{ authorization: string; token: string }>
}

interface Known {
  keys: JWK[]
  document: z.infer<typeof discoverySchema>
  at: number
}

/**
 * Keys of the issuers on the allow-list, found by OpenID Connect Discovery 1.0 section 4 and kept in memory. Only ask for
 * an issuer that is on the list: what a token says is no address to fetch from.
 */
export function createIssuerKeys(options: { fetch: typeof fetch; clock: () => Date }): IssuerKeys {
  const known = new Map<string, Known>()
  const tried = new Map<string, number>()
  const loading = new Map<string, Promise<Known>>()

  async function get<T>(url: string, schema: z.ZodType<T>): Promise<T> {
    const unreachable = (got: string, cause?: unknown) =>
      new GraftError('ERR_UNREACHABLE', `${url} gave ${got}; try again shortly`, { cause })
    try {
      const { fetch: doFetch } = options
      // A redirect could lead anywhere; the list names the issuer itself. (workerd knows no "error".)
      const response = await doFetch(url, {
        redirect: 'manual',
        signal: AbortSignal.timeout(TIMEOUT_MS),
        headers: { accept: 'application/json' },
      })
      if (response.status !== 200 || response.body === null)
        throw unreachable(`status ${response.status}`)
      const bytes = await readAll(response.body as never, MAX_BYTES, url)
      return schema.parse(JSON.parse(new TextDecoder().decode(bytes)))
    } catch (cause) {
      if (cause instanceof GraftError && cause.code === 'ERR_UNREACHABLE') throw cause
      throw unreachable('no answer that is understood', cause)
    }
  }

  async function load(issuer: string): Promise<Known> {
    const document = await get(
      `${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`,
      discoverySchema,
    )
    if (document.issuer !== issuer)
      throw new GraftError('ERR_UNREACHABLE', expected('issuer', issuer, document.issuer))
    // Keys over plain HTTP would make the issuer's https worth nothing.
    if (issuer.startsWith('https:') && !document.jwks_uri.startsWith('https:'))
      throw new GraftError('ERR_UNREACHABLE', expected('jwks_uri', 'https', document.jwks_uri))
    const { keys } = await get(document.jwks_uri, keySetSchema)
    const found = { keys: keys as JWK[], document, at: options.clock().getTime() }
    known.set(issuer, found)
    return found
  }

  async function refreshed(issuer: string): Promise<Known> {
    const now = options.clock().getTime()
    const last = known.get(issuer)
    try {
      const current = loading.get(issuer) ?? load(issuer)
      loading.set(issuer, current)
      tried.set(issuer, now)
      return await current
    } catch (e) {
      if (last && now - last.at < KEPT_MS) return last
      throw e
    } finally {
      loading.delete(issuer)
    }
  }

  const pick = (keys: JWK[], kid: string): JWK | null =>
    keys.find((key) => key.kid === kid && (key.use ?? 'sig') === 'sig') ?? null

  return {
    async find(issuer, kid) {
      const now = options.clock().getTime()
      const last = known.get(issuer)
      const isFresh = last !== undefined && now - last.at < FRESH_MS
      const found = pick((isFresh ? last : await refreshed(issuer)).keys, kid)
      if (found !== null || !isFresh || now - (tried.get(issuer) ?? 0) < RETRY_MS) return found
      return pick((await refreshed(issuer)).keys, kid)
    },
    async endpoints(issuer) {
      const last = known.get(issuer)
      const isFresh = last !== undefined && options.clock().getTime() - last.at < FRESH_MS
      const { document } = isFresh ? last : await refreshed(issuer)
      const { authorization_endpoint: authorization, token_endpoint: token } = document
      const scheme = issuer.startsWith('https:') ? 'https:' : 'http'
      if (authorization?.startsWith(scheme) && token?.startsWith(scheme))
        return { authorization, token }
      throw new GraftError('ERR_UNREACHABLE', `${issuer} does not say where it signs people in`)
    },
  }
}

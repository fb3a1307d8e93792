import { expected, GraftError } from '../format/errors.ts'
import { serverUrl } from './path.ts'
import { backoffMs, isRetryable, MAX_RETRY_AFTER_SECONDS, retryAfterSeconds } from './retry.ts'
import { errorFromResponse, parseJson } from './server-error.ts'
import { createWatch, sleep, type Watch } from './watch.ts'

/** What every client takes. */
export interface ClientOptions {
  /** `https://graft.example`, without /v1. */
  url: string
  /** Access token; left out for public reads. */
  token?: string | undefined
  /** Replace to use a proxy, a Worker service binding or an app in memory. @default globalThis.fetch */
  fetch?: typeof fetch | undefined
  /** Attempts after the first. @default 2 */
  retries?: number | undefined
}

export interface HttpRequest {
  method: 'GET' | 'POST' | 'PUT' | 'DELETE'
  /** Path from the server's base, or a full URL (an upload the server points at). */
  path: string
  json?: unknown
  /** Called for every attempt, since a stream can be sent only once. */
  body?: () => BodyInit
  headers?: Record<string, string>
  /** Whether doing it twice is the same as once; without it a lost connection is not retried. @default not POST */
  idempotent?: boolean
  signal?: AbortSignal | undefined
  /** Milliseconds until the answer's headers. @default 60000 */
  timeoutMs?: number | undefined
  /** What is being done, for the message of a failure. */
  what: string
}

export interface Http {
  readonly url: string
  /** An ok answer whose body is still to be read under `watch`. @throws GraftError for everything else */
  send(request: HttpRequest): Promise<{ response: Response; watch: Watch }>
  json<T>(request: HttpRequest): Promise<T>
}

const HEADERS_TIMEOUT_MS = 60_000

/** The one place that talks to a server: auth, retries, time limits and typed errors. */
export function createHttp(options: ClientOptions, where: string): Http {
  const url = serverUrl(options.url, where)
  const retries = options.retries ?? 2
  const doFetch: typeof fetch = options.fetch ?? ((input, init) => fetch(input, init))

  /** The token goes to its own server only, never to storage that an upload URL points at. */
  const headersFor = (target: string, request: HttpRequest): Headers => {
    const headers = new Headers(request.headers)
    if (
      options.token &&
      !headers.has('authorization') &&
      new URL(target).origin === new URL(url).origin
    )
      headers.set('authorization', `Bearer ${options.token}`)
    if (request.json !== undefined) headers.set('content-type', 'application/json')
    return headers
  }

  async function attempt(target: string, request: HttpRequest, watch: Watch): Promise<Response> {
    watch.arm(request.timeoutMs ?? HEADERS_TIMEOUT_MS, `${request.what}: waiting for an answer`)
    const body = request.json === undefined ? request.body?.() : JSON.stringify(request.json)
    const init: RequestInit & { duplex?: 'half' } = {
      method: request.method,
      headers: headersFor(target, request),
      signal: watch.signal,
      ...(body === undefined ? {} : { body }),
      ...(body instanceof ReadableStream ? { duplex: 'half' as const } : {}),
    }
    try {
      return await doFetch(target, init)
    } catch (e) {
      throw watch.explain(e, `${request.what} at ${new URL(target).origin}`)
    } finally {
      watch.disarm()
    }
  }

  async function send(request: HttpRequest): Promise<{ response: Response; watch: Watch }> {
    const target = /^https?:/.test(request.path) ? request.path : url + request.path
    const idempotent = request.idempotent ?? request.method !== 'POST'
    for (let tried = 0; ; tried++) {
      const watch = createWatch(request.signal)
      const outcome = await attempt(target, request, watch).catch((e: GraftError) => e)
      if (outcome instanceof Response && outcome.ok) return { response: outcome, watch }
      const after =
        outcome instanceof Response ? retryAfterSeconds(outcome.headers, Date.now()) : null
      const again =
        outcome instanceof Response
          ? isRetryable(outcome.status, after) && (after ?? 0) <= MAX_RETRY_AFTER_SECONDS
          : outcome.code === 'ERR_UNREACHABLE' && idempotent
      if (!again || tried >= retries) {
        if (outcome instanceof Response) throw await errorFromResponse(outcome, request.what)
        throw outcome
      }
      if (outcome instanceof Response) await outcome.body?.cancel().catch(() => {})
      await sleep(backoffMs(tried, after, Math.random()), request.signal)
    }
  }

  return {
    url,
    send,
    async json<T>(request: HttpRequest): Promise<T> {
      const { response, watch } = await send(request)
      watch.arm(HEADERS_TIMEOUT_MS, `${request.what}: reading the answer`)
      const text = await response.text().catch((e: unknown) => {
        throw watch.explain(e, request.what)
      })
      watch.disarm()
      const value = parseJson(text)
      if (value !== undefined) return value as T
      throw new GraftError('ERR_JSON_INVALID', expected(`answer to ${request.what}`, 'JSON', text))
    },
  }
}

import { expected, GraftError } from '../format/errors.ts'
import { serverUrl } from './path.ts'
import { isRecord, parseJson } from './server-error.ts'
import { createWatch, sleep } from './watch.ts'

export interface DeviceLoginOptions {
  /** The registry's. */
  url: string
  /** What the token shall allow. @default the registry's: infer, read, publish */
  scopes?: readonly string[] | undefined
  signal?: AbortSignal | undefined
  /** Tells the person where to go with which code. */
  show(code: { userCode: string; page: string; pageWithCode: string; expiresIn: number }): void
  /** @default globalThis.fetch */
  fetch?: typeof fetch | undefined
}

const CLIENT = 'graft-cli'
const GRANT = 'urn:ietf:params:oauth:grant-type:device_code'
const TIMEOUT_MS = 60_000

/**
 * Signs in by a browser, which may be on another machine (RFC 8628).
 * @returns the access token
 * @throws ERR_FORBIDDEN when the person says no, ERR_TOKEN_EXPIRED when nobody decides in time
 */
export async function deviceLogin(options: DeviceLoginOptions): Promise<string> {
  const { scopes, signal, show } = options
  const asked = await post(options, 'device_authorization', {
    client_id: CLIENT,
    ...(scopes ? { scope: scopes.join(' ') } : {}),
  })
  if (!asked.ok) throw failure(asked)
  const deviceCode = text(asked.body, 'device_code')
  let interval = Number(asked.body['interval'] ?? 5)
  show({
    userCode: text(asked.body, 'user_code'),
    page: text(asked.body, 'verification_uri'),
    pageWithCode: text(asked.body, 'verification_uri_complete'),
    expiresIn: Number(asked.body['expires_in']),
  })
  const form = { client_id: CLIENT, grant_type: GRANT, device_code: deviceCode }
  for (;;) {
    await sleep(interval * 1000, signal)
    const answer = await post(options, 'token', form)
    if (answer.ok) return text(answer.body, 'access_token')
    const { error } = answer.body
    // Section 3.5: five seconds more, for good.
    if (error === 'slow_down') interval += 5
    else if (error !== 'authorization_pending') throw failure(answer)
  }
}

interface OAuthAnswer {
  ok: boolean
  status: number
  body: Record<string, unknown>
}

async function post(
  { url, signal, ...options }: DeviceLoginOptions,
  endpoint: string,
  form: Record<string, string>,
): Promise<OAuthAnswer> {
  const target = `${serverUrl(url, 'registry URL')}/oauth/${endpoint}`
  const watch = createWatch(signal)
  watch.arm(TIMEOUT_MS, 'signing in')
  try {
    const response = await (options.fetch ?? fetch)(target, {
      method: 'POST',
      body: new URLSearchParams(form),
      signal: watch.signal,
    })
    const said = await response.text()
    const body = parseJson(said)
    if (isRecord(body)) return { ok: response.ok, status: response.status, body }
    throw new GraftError('ERR_JSON_INVALID', expected(`answer of ${target}`, 'a JSON object', said))
  } catch (e) {
    throw watch.explain(e, `signing in at ${new URL(target).origin}`)
  } finally {
    watch.disarm()
  }
}

function text(body: Record<string, unknown>, name: string): string {
  const value = body[name]
  if (typeof value === 'string' && value !== '') return value
  throw new GraftError('ERR_JSON_INVALID', expected(`the registry's ${name}`, 'text', value))
}

function failure({ body, status }: OAuthAnswer): GraftError {
  const { error } = body
  if (error === 'access_denied')
    return new GraftError('ERR_FORBIDDEN', 'the sign-in was denied in the browser')
  if (error === 'expired_token')
    return new GraftError('ERR_TOKEN_EXPIRED', 'nobody entered the code in time; log in again')
  const why = String(body['error_description'] ?? (isRecord(error) ? error['message'] : error))
  const code =
    status === 404 ? 'ERR_ROUTE_UNKNOWN' : status >= 500 ? 'ERR_UNREACHABLE' : 'ERR_REQUEST_INVALID'
  return new GraftError(code, `signing in failed: ${why}`)
}

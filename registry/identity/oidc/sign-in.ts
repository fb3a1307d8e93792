import { encodeBase64, encodeBase64url } from '@graft/sdk/format/base64url.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import * as z from 'zod'
import { nowIso, type RegistryDeps, type SignInProvider } from '../../deps.ts'
import { eventRow } from '../../packages/events.ts'
import { readAll } from '../../stores/blob-store.ts'
import { first, sql } from '../../stores/catalogue.ts'
import { newSecret, secretHash } from '../secrets.ts'
import type { IssuerKeys } from './issuer-keys.ts'
import { verifyIdentityToken } from './verify-identity-token.ts'

/** Milliseconds for which a person may be away at the issuer. */
const ATTEMPT_MS = 10 * 60_000
/** Sign-ins away at once: anybody may begin one, nobody shall fill the disk. */
const MAX_AWAY = 10_000
const TIMEOUT_MS = 5_000
const MAX_BYTES = 64 * 1024

const refused = (why: string, cause?: unknown) =>
  new GraftError('ERR_UNAUTHENTICATED', `${why}; begin again`, { cause })

export const redirectUri = (deps: RegistryDeps): string =>
  `${deps.signIn!.publicUrl}/account/oidc/callback`

/**
 * Authorization code with PKCE (OpenID Connect Core 1.0 section 3.1, RFC 7636, RFC 9700).
 * @param browser the cookie of the browser that begins
 * @param linkUser whose the identity becomes; null: it must be somebody's already
 * @returns where to send the browser
 */
export async function beginSignIn(
  deps: RegistryDeps,
  keys: IssuerKeys,
  provider: SignInProvider,
  { browser, next, linkUser }: { browser: string; next: string; linkUser: string | null },
): Promise<string> {
  const { authorization } = await keys.endpoints(provider.issuer)
  const [state, nonce, verifier] = [newSecret(), newSecret(), newSecret()]
  const until = new Date(deps.clock().getTime() + ATTEMPT_MS).toISOString()
  const forget = sql('DELETE FROM sign_in_attempts WHERE expires_at < ?', nowIso(deps))
  await deps.catalogue.batch([forget])
  const away = await first<{ n: number }>(
    deps.catalogue,
    'SELECT count(*) AS n FROM sign_in_attempts',
  )
  if (away!.n >= MAX_AWAY)
    throw new GraftError('ERR_RATE_LIMITED', 'too many sign-ins are under way; try again shortly', {
      retryAfter: 60,
    })
  await deps.catalogue.batch([
    sql(
      `INSERT INTO sign_in_attempts (id, browser, issuer, nonce, verifier, next, link_user, expires_at)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
      await secretHash(state),
      await secretHash(browser),
      provider.issuer,
      nonce,
      verifier,
      next,
      linkUser,
      until,
    ),
  ])
  const sum = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(verifier))
  const url = new URL(authorization)
  for (const [name, value] of Object.entries({
    ...{ response_type: 'code', scope: 'openid', client_id: provider.clientId },
    ...{ redirect_uri: redirectUri(deps), state, nonce },
    ...{ code_challenge: encodeBase64url(new Uint8Array(sum)), code_challenge_method: 'S256' },
  }))
    url.searchParams.set(name, value)
  return url.href
}

interface Attempt {
  id: string
  browser: string
  issuer: string
  nonce: string
  verifier: string
  next: string
  link_user: string | null
}

/**
 * The browser came back. @returns whose identity it is; user null when it is nobody's here
 * @throws ERR_UNAUTHENTICATED, ERR_NAME_TAKEN when it is linked to another user, ERR_UNREACHABLE
 */
export async function finishSignIn(
  deps: RegistryDeps,
  keys: IssuerKeys,
  answer: { state: string; code: string; iss: string | undefined; browser: string | undefined },
): Promise<{ user: string | null; next: string }> {
  const attempt = await first<Attempt>(
    deps.catalogue,
    `SELECT id, browser, issuer, nonce, verifier, next, link_user FROM sign_in_attempts
      WHERE id = ? AND expires_at > ?`,
    await secretHash(answer.state),
    nowIso(deps),
  )
  if (attempt === null || attempt.browser !== (await secretHash(answer.browser ?? '')))
    throw refused('this sign-in was not begun in this browser, or too long ago')
  const [taken] = await deps.catalogue.batch([
    sql('DELETE FROM sign_in_attempts WHERE id = ?', attempt.id),
  ])
  if (taken !== 1) throw refused('this sign-in was finished already')
  const { issuer, nonce } = attempt
  // RFC 9207: an answer that names another issuer was mixed up on the way.
  if (answer.iss !== undefined && answer.iss !== issuer)
    throw refused('the answer is of another issuer')
  const provider = deps.signIn?.providers.find((known) => known.issuer === issuer)
  if (provider === undefined) throw refused('this issuer is not used any more')
  const token = await redeem(deps, keys, provider, attempt, answer.code)
  const audience = provider.clientId
  const expectation = { issuers: [issuer], audience, nonce, now: deps.clock() }
  const { sub } = await verifyIdentityToken(keys, token, expectation)
  const find = () =>
    first<{ user: string }>(
      deps.catalogue,
      'SELECT user FROM identities WHERE issuer = ? AND subject = ?',
      issuer,
      sub,
    )
  if (attempt.link_user !== null && (await find()) === null)
    await deps.catalogue.batch([
      sql(
        `INSERT INTO identities (issuer, subject, user, created_at) VALUES (?, ?, ?, ?)
         ON CONFLICT (issuer, subject) DO NOTHING`,
        issuer,
        sub,
        attempt.link_user,
        nowIso(deps),
      ),
      eventRow(
        deps,
        { sub: `user:${attempt.link_user}`, tenant: '' },
        'identity.link',
        `${issuer} ${sub}`.slice(0, 500),
      ),
    ])
  const user = (await find())?.user ?? null
  if (attempt.link_user !== null && user !== attempt.link_user)
    throw new GraftError('ERR_NAME_TAKEN', 'this identity is linked to another user already')
  return { user, next: attempt.next }
}

const answerSchema = z.looseObject({ id_token: z.string() })

/** The code for the identity token, at the issuer's token endpoint. */
async function redeem(
  deps: RegistryDeps,
  keys: IssuerKeys,
  provider: SignInProvider,
  { verifier }: Attempt,
  code: string,
): Promise<string> {
  const { token } = await keys.endpoints(provider.issuer)
  const { clientId, clientSecret } = provider
  const form = new URLSearchParams({
    ...{ grant_type: 'authorization_code', code, redirect_uri: redirectUri(deps) },
    ...{ client_id: clientId, code_verifier: verifier },
  })
  const headers: Record<string, string> = {
    accept: 'application/json',
    'content-type': 'application/x-www-form-urlencoded',
  }
  if (clientSecret !== null) {
    // RFC 6749 section 2.3.1: both are form-encoded before they are joined.
    const pair = [clientId, clientSecret].map((text) => encodeURIComponent(text)).join(':')
    headers['authorization'] = `Basic ${encodeBase64(new TextEncoder().encode(pair))}`
  }
  const ask: typeof fetch = deps.fetch ?? ((input, init) => fetch(input, init))
  try {
    const response = await ask(token, {
      ...{ method: 'POST', headers, body: form.toString(), redirect: 'manual' as const },
      signal: AbortSignal.timeout(TIMEOUT_MS),
    })
    if (response.status !== 200 || response.body === null)
      throw refused(`the issuer did not accept the code (status ${response.status})`)
    const bytes = await readAll(response.body as never, MAX_BYTES, 'the issuer’s answer')
    return answerSchema.parse(JSON.parse(new TextDecoder().decode(bytes))).id_token
  } catch (cause) {
    if (cause instanceof GraftError && cause.code === 'ERR_UNAUTHENTICATED') throw cause
    throw new GraftError('ERR_UNREACHABLE', `${provider.name} gave no answer that is understood`, {
      cause,
    })
  }
}

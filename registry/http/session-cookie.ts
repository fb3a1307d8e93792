import { GraftError } from '@graft/sdk/format/errors.ts'
import { deleteCookie, getCookie, setCookie } from 'hono/cookie'
import type { RegistryDeps } from '../deps.ts'
import { findSession, SESSION_SECONDS, type Session } from '../identity/sessions.ts'
import type { RegistryContext } from './context.ts'

const NAME = 'graft-session'

/** `__Host-` (RFC 6265bis section 4.1.3.2) wants https; a registry on one's own machine has none. */
const isHttps = (deps: RegistryDeps, c: RegistryContext): boolean =>
  deps.issuerName.startsWith('https:') || c.req.url.startsWith('https:')
const prefix = (deps: RegistryDeps, c: RegistryContext) =>
  isHttps(deps, c) ? ({ prefix: 'host' } as const) : {}

export const keepSession = (deps: RegistryDeps, c: RegistryContext, cookie: string): void =>
  setCookie(c, NAME, cookie, {
    ...{ path: '/', httpOnly: true, sameSite: 'Strict', maxAge: SESSION_SECONDS },
    ...{ secure: isHttps(deps, c), ...prefix(deps, c) },
  })

export const forgetSession = (deps: RegistryDeps, c: RegistryContext): void => {
  deleteCookie(c, NAME, { path: '/', secure: isHttps(deps, c), ...prefix(deps, c) })
}

export const readSession = (deps: RegistryDeps, c: RegistryContext): Promise<Session | null> =>
  findSession(deps, getCookie(c, NAME, isHttps(deps, c) ? 'host' : undefined))

/** Browsers say where a request comes from (Fetch Metadata); another site's form is refused before it is read. */
export function assertSameSite(c: RegistryContext): void {
  const from = c.req.header('sec-fetch-site')
  if (from === undefined || from === 'same-origin' || from === 'none') return
  throw new GraftError('ERR_FORBIDDEN', `a form of another site was sent here (${from})`)
}

/** @throws ERR_FORBIDDEN unless the form was made for this session */
export function assertForm(session: Session, form: Map<string, string>): void {
  if (form.get('form_key') === session.formKey) return
  throw new GraftError('ERR_FORBIDDEN', 'the form is of another session; load the page again')
}

import { GraftError, isGraftError } from '@graft/sdk/format/errors.ts'
import { Hono } from 'hono'
import { deleteCookie, getCookie, setCookie } from 'hono/cookie'
import type { RegistryDeps } from '../deps.ts'
import type { RegistryContext, RegistryEnv } from '../http/context.ts'
import { readForm } from '../http/form.ts'
import { assertForm, assertSameSite, keepSession, readSession } from '../http/session-cookie.ts'
import { createIssuerKeys } from '../identity/oidc/issuer-keys.ts'
import { mayLink } from '../identity/oidc/may-link.ts'
import { beginSignIn, finishSignIn } from '../identity/oidc/sign-in.ts'
import { newSecret } from '../identity/secrets.ts'
import { openSession } from '../identity/sessions.ts'
import { accountPage, continuePage } from '../pages/account-page.ts'
import { privatePage } from '../pages/private-page.ts'
import { signInPage } from '../pages/sign-in-page.ts'
import { safePath } from './safe-path.ts'

const BROWSER = 'graft-sign-in'
const BROWSER_SECONDS = 600

/** People who sign in at another issuer, and link what they are there to what they are here. */
export const oidcSignInRoutes = (deps: RegistryDeps) => {
  const ask: typeof fetch = deps.fetch ?? ((input, init) => fetch(input, init))
  const keys = createIssuerKeys({ fetch: ask, clock: deps.clock })
  const providers = deps.signIn?.providers ?? []

  function findProvider(c: RegistryContext) {
    const provider = providers.find(({ id }) => id === c.req.param('provider'))
    if (provider) return provider
    throw new GraftError('ERR_NAME_UNKNOWN', `nobody signs in by "${c.req.param('provider')}" here`)
  }

  /** Lax, since it must come back with the issuer's redirect; it is good for ending this one sign-in. */
  async function begin(c: RegistryContext, next: string, linkUser: string | null): Promise<string> {
    const provider = findProvider(c)
    const browser = newSecret()
    setCookie(c, BROWSER, browser, {
      ...{ path: '/account/oidc', httpOnly: true, sameSite: 'Lax', maxAge: BROWSER_SECONDS },
      secure: deps.signIn!.publicUrl.startsWith('https:'),
    })
    return beginSignIn(deps, keys, provider, { browser, next, linkUser })
  }

  return new Hono<RegistryEnv>()
    .get('/account', async (c) => {
      const session = await readSession(deps, c)
      if (session === null) return privatePage(c, signInPage('/account', null, providers))
      const { user, formKey, callers } = session
      const identities = await deps.catalogue.query<{ issuer: string; subject: string }>(
        'SELECT issuer, subject FROM identities WHERE user = ? ORDER BY created_at',
        [user],
      )
      const orgs = callers.map(({ tenant, role }) => ({ org: tenant, role }))
      const linkable = (await mayLink(deps, session)) ? [...providers] : []
      const view = { user, formKey, orgs, identities, providers: linkable }
      return privatePage(c, accountPage(view))
    })
    .get('/account/oidc/callback', async (c) => {
      const { state = '', code, iss, error } = c.req.query()
      try {
        if (code === undefined)
          throw new GraftError(
            'ERR_UNAUTHENTICATED',
            `the issuer says ${JSON.stringify((error ?? 'nothing').slice(0, 60))}; begin again`,
          )
        const browser = getCookie(c, BROWSER)
        const { user, next } = await finishSignIn(deps, keys, { state, code, iss, browser })
        deleteCookie(c, BROWSER, { path: '/account/oidc' })
        if (user === null) {
          const unknown =
            'This identity is nobody’s here yet. Sign in with a token of yours, then link it on your account page.'
          return privatePage(c, signInPage('/account', unknown, providers), 403)
        }
        keepSession(deps, c, await openSession(deps, user, null))
        return privatePage(c, continuePage('Signed in', `You are ${user}.`, safePath(next)))
      } catch (e) {
        if (!isGraftError(e) || e.code === 'ERR_INTERNAL') throw e
        return privatePage(c, signInPage('/account', e.message, providers), 401)
      }
    })
    .get('/account/oidc/:provider', async (c) =>
      c.redirect(await begin(c, safePath(c.req.query('next')), null), 303),
    )
    .post('/account/oidc/:provider/link', async (c) => {
      assertSameSite(c)
      const session = await readSession(deps, c)
      if (session === null) throw new GraftError('ERR_UNAUTHENTICATED', 'sign in first')
      assertForm(session, await readForm(c, deps.limits.json))
      if (!(await mayLink(deps, session)))
        throw new GraftError(
          'ERR_FORBIDDEN',
          'the token that opened this session can do less than you; sign in with one of scope admin',
        )
      const to = await begin(c, '/account', session.user)
      return privatePage(c, continuePage('Link', `Sign in at ${findProvider(c).name}.`, to))
    })
}

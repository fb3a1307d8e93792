import { GraftError, isGraftError } from '@graft/sdk/format/errors.ts'
import { Hono } from 'hono'
import type { RegistryDeps } from '../deps.ts'
import { readQuery } from '../http/body.ts'
import type { RegistryContext, RegistryEnv } from '../http/context.ts'
import { readForm } from '../http/form.ts'
import {
  assertForm,
  assertSameSite,
  forgetSession,
  keepSession,
  readSession,
} from '../http/session-cookie.ts'
import { verifyAccess } from '../identity/authenticate.ts'
import { decideDeviceLogin, findDeviceLogin, givable } from '../identity/device-login.ts'
import { closeSession, countMiss, openSession, type Session } from '../identity/sessions.ts'
import { parseUserCode } from '../identity/user-code.ts'
import { codePage, decidedPage, decisionPage } from '../pages/device-page.ts'
import { privatePage } from '../pages/private-page.ts'
import { signInPage } from '../pages/sign-in-page.ts'
import { safePath } from './safe-path.ts'

/** For people in a browser: signing in, and what a program's device code asks of them. */
export const deviceRoutes = (deps: RegistryDeps) => {
  const providers = deps.signIn?.providers ?? []

  /** Names what is asked for, or says what is wrong with the code. */
  async function decision(c: RegistryContext, session: Session, text: string): Promise<Response> {
    const { user, formKey } = session
    const userCode = parseUserCode(text)
    const login = userCode && (await findDeviceLogin(deps, userCode))
    if (!login) {
      await countMiss(deps, session.id)
      const problem = 'Nothing waits under this code. It may be mistyped, used, or too old.'
      return privatePage(c, codePage(user, formKey, problem), 400)
    }
    const choices = session.callers
      .map((caller) => ({ org: caller.tenant, scopes: givable(login, caller) }))
      .filter(({ scopes }) => scopes.length > 0)
    return privatePage(c, decisionPage({ user, formKey, userCode: login.user_code, choices }))
  }

  /** The form of a signed-in person, checked. */
  async function signedForm(c: RegistryContext) {
    assertSameSite(c)
    const session = await readSession(deps, c)
    if (session === null)
      throw new GraftError('ERR_UNAUTHENTICATED', 'sign in first, at /account/sign-in')
    const form = await readForm(c, deps.limits.json)
    assertForm(session, form)
    return { session, form }
  }

  return new Hono<RegistryEnv>()
    .get('/account/sign-in', (c) =>
      privatePage(c, signInPage(safePath(readQuery(c, ['next']).next), null, providers)),
    )
    .post('/account/sign-in', async (c) => {
      assertSameSite(c)
      const form = await readForm(c, deps.limits.json)
      const next = safePath(form.get('next'))
      try {
        const caller = await verifyAccess(deps, form.get('token')?.trim() ?? '')
        if (!caller.sub.startsWith('user:'))
          throw new GraftError('ERR_FORBIDDEN', 'this is a program’s token, not a person’s')
        keepSession(deps, c, await openSession(deps, caller.user, caller))
      } catch (e) {
        if (!isGraftError(e) || e.status >= 500) throw e
        const problem =
          e.code === 'ERR_FORBIDDEN' ? e.message : 'This token is not valid here, or has expired.'
        return privatePage(c, signInPage(next, problem, providers), 401)
      }
      return c.redirect(next, 303)
    })
    .post('/account/sign-out', async (c) => {
      const { session } = await signedForm(c)
      await closeSession(deps, session.id)
      forgetSession(deps, c)
      return c.redirect('/account/sign-in', 303)
    })
    .get('/device', async (c) => {
      const code = readQuery(c, ['user_code']).user_code
      const session = await readSession(deps, c)
      if (session === null) {
        const next = code ? `/device?user_code=${encodeURIComponent(code)}` : '/device'
        return privatePage(c, signInPage(safePath(next), null, providers))
      }
      if (code !== undefined) return decision(c, session, code)
      return privatePage(c, codePage(session.user, session.formKey, null))
    })
    .post('/device/code', async (c) => {
      const { session, form } = await signedForm(c)
      return decision(c, session, form.get('user_code') ?? '')
    })
    .post('/device', async (c) => {
      const { session, form } = await signedForm(c)
      const word = form.get('decision')
      if (word !== 'allow' && word !== 'deny')
        throw new GraftError('ERR_REQUEST_INVALID', 'decision must be "allow" or "deny"')
      const userCode = parseUserCode(form.get('user_code') ?? '')
      const login = userCode && (await findDeviceLogin(deps, userCode))
      if (!login) return decision(c, session, form.get('user_code') ?? '')
      const allow = word === 'allow'
      const org = form.get('org') ?? ''
      await decideDeviceLogin(deps, session, login, allow ? { allow, org } : { allow })
      return privatePage(c, decidedPage(allow))
    })
}

import { decodeUnverified } from '@graft/sdk/format/jws.ts'
import type { AccessClaims } from '@graft/sdk/protocol/tokens.ts'
import { beforeAll, describe, expect, it } from 'vitest'
import { type App, furnish, type House } from './fixtures.ts'

export const DEVICE_GRANT = 'urn:ietf:params:oauth:grant-type:device_code'

/** A browser as far as forms and cookies go: it keeps the session cookie and fills in what a page hides. */
export function createBrowser(app: { request: App['request'] }) {
  const cookies = new Map<string, string>()
  const open = async (path: string, form?: Record<string, string>, headers: object = {}) => {
    const response = await app.request(path, {
      method: form ? 'POST' : 'GET',
      redirect: 'manual',
      headers: {
        accept: 'text/html',
        ...(cookies.size > 0
          ? { cookie: [...cookies].map((pair) => pair.join('=')).join('; ') }
          : {}),
        ...(form ? { 'content-type': 'application/x-www-form-urlencoded' } : {}),
        ...(headers as Record<string, string>),
      },
      ...(form ? { body: new URLSearchParams(form).toString() } : {}),
    })
    const set = response.headers.get('set-cookie')
    for (const line of response.headers.getSetCookie()) {
      const [name, value] = line.split(';')[0]!.split('=', 2)
      cookies.set(name!, value!)
    }
    const html = await response.text()
    const hidden = Object.fromEntries(
      [...html.matchAll(/<input type="hidden" name="(\w+)" value="([^"]*)"/g)].map((m) => [
        m[1]!,
        m[2]!,
      ]),
    )
    return { status: response.status, headers: response.headers, html, hidden, set }
  }
  return { open, signIn: (token: string) => open('/account/sign-in', { token, next: '/device' }) }
}

/** The OAuth endpoints as a program calls them. */
export const oauthOf =
  (app: { request: App['request'] }) =>
  async (path: 'device_authorization' | 'token', form: Record<string, string>) => {
    const response = await app.request(`/oauth/${path}`, {
      method: 'POST',
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
      body: new URLSearchParams(form).toString(),
    })
    return {
      status: response.status,
      headers: response.headers,
      // biome-ignore lint/suspicious/noExplicitAny: tests look into bodies by name
      body: (await response.json()) as any,
    }
  }

/** Signing in over HTTP, for every platform; `wait` moves the registry's clock where that can be done. */
export function signInContract(
  platform: string,
  open: () => Promise<{ app: { request: App['request'] }; wait?: (seconds: number) => void }>,
) {
  describe(`device login on ${platform}`, () => {
    let app: { request: App['request'] }
    let wait: ((seconds: number) => void) | undefined
    let house: House
    let oauth: ReturnType<typeof oauthOf>
    beforeAll(async () => {
      ;({ app, wait } = await open())
      house = await furnish(app)
      oauth = oauthOf(app)
    })

    const start = async (scope?: string) =>
      (await oauth('device_authorization', { client_id: 'graft-cli', ...(scope ? { scope } : {}) }))
        .body
    const poll = (code: string, more: object = {}) =>
      oauth('token', {
        ...{ grant_type: DEVICE_GRANT, client_id: 'graft-cli', device_code: code },
        ...more,
      })
    /** Enters a code as a person would; the decision's answer. */
    async function decide(
      browser: ReturnType<typeof createBrowser>,
      userCode: string,
      decision: object,
    ) {
      const asked = await browser.open('/device')
      const form = { form_key: asked.hidden['form_key']!, user_code: userCode }
      const shown = await browser.open('/device/code', form)
      expect(shown.status, shown.html).toBe(200)
      return browser.open('/device', { ...shown.hidden, ...(decision as Record<string, string>) })
    }

    it('gives the program a token once a person at a browser has allowed it, and once only', async () => {
      const started = await start('read publish')
      expect(started).toMatchObject({ expires_in: 600, interval: 5 })
      expect(started.user_code).toMatch(/^[BCDFGHJKLMNPQRSTVWXZ]{4}-[BCDFGHJKLMNPQRSTVWXZ]{4}$/)
      expect(started.verification_uri).toMatch(/^https?:\/\/[^/]+\/device$/)
      expect(started.verification_uri_complete).toContain(started.user_code)
      const browser = createBrowser(app)
      const in_ = await browser.signIn(house.token)
      expect([in_.status, in_.headers.get('location')]).toEqual([303, '/device'])
      expect(in_.set).toMatch(/^__Host-graft-session=.*HttpOnly.*Secure.*SameSite=Strict/)
      const done = await decide(browser, started.user_code.toLowerCase().replace('-', ' '), {
        ...{ decision: 'allow', org: 'acme' },
      })
      expect(done.html).toContain('<h1>Allowed</h1>')
      const given = await poll(started.device_code)
      expect(given.status).toBe(200)
      expect(given.headers.get('cache-control')).toBe('no-store')
      expect(given.body).toMatchObject({
        token_type: 'Bearer',
        expires_in: 30 * 86_400,
        scope: 'read publish',
      })
      const who = await house.call('GET', '/v1/whoami', { token: given.body.access_token })
      expect(who.body).toMatchObject({
        ...{ sub: 'user:ada', tenant: 'acme', scopes: ['read', 'publish'] },
      })
      expect((await poll(started.device_code)).body.error).toBe('invalid_grant')
    })

    it('tells a program that polls to wait, and to slow down when it does not', async () => {
      const { device_code } = await start()
      const first = await poll(device_code)
      expect([first.status, first.body.error]).toEqual([400, 'authorization_pending'])
      expect((await poll(device_code)).body.error).toBe('slow_down')
      if (!wait) return
      wait(9)
      expect((await poll(device_code)).body.error).toBe('slow_down')
      wait(15)
      expect((await poll(device_code)).body.error).toBe('authorization_pending')
      wait(600)
      expect((await poll(device_code)).body.error).toBe('expired_token')
    })

    it('gives nothing when the person says no', async () => {
      const { device_code, user_code } = await start()
      const browser = createBrowser(app)
      await browser.signIn(house.token)
      const said = await decide(browser, user_code, { decision: 'deny' })
      expect(said.html).toContain('<h1>Denied</h1>')
      expect((await poll(device_code)).body.error).toBe('access_denied')
    })

    it('never gives more, or for longer, than the token has that opened the browser’s session', async () => {
      const eve = await house.newcomer('eve', 'evil')
      const browser = createBrowser(app)
      const { token } = (
        await house.call('POST', '/v1/tokens', {
          token: house.token,
          json: { org: 'acme', name: 'program', scopes: ['read'], expiresIn: 60 },
        })
      ).body
      const program = await browser.signIn(token)
      expect([program.status, program.set]).toEqual([401, null])
      const short = await start('read admin')
      await browser.signIn(eve.token)
      const foreign = await decide(browser, short.user_code, { decision: 'allow', org: 'acme' })
      expect(foreign.status).toBe(403)
      expect((await poll(short.device_code)).body.error).toBe('authorization_pending')
      await decide(browser, short.user_code, { decision: 'allow', org: 'evil' })
      const { body } = await poll(short.device_code)
      const { payload } = decodeUnverified<AccessClaims>(body.access_token)
      expect(payload).toMatchObject({ tenant: 'evil', scopes: ['read', 'admin'] })
      // What the device login gave bounds the next browser it opens.
      const second = createBrowser(app)
      expect((await second.signIn(body.access_token)).status).toBe(303)
      const next = await start('publish read')
      await decide(second, next.user_code, { decision: 'allow', org: 'evil' })
      expect((await poll(next.device_code)).body.scope).toBe('read')
      const none = await start('publish')
      const refused = await decide(second, none.user_code, { decision: 'allow', org: 'evil' })
      expect(refused.status).toBe(403)
    })

    it('ends the browser’s session with its token, on signing out, and after ten wrong codes', async () => {
      const fay = await house.newcomer('fay', 'fayco')
      const browser = createBrowser(app)
      await browser.signIn(fay.token)
      expect((await browser.open('/device')).html).toContain('<strong>fay</strong>')
      await house.call('DELETE', '/v1/orgs/fayco/tokens', { token: fay.token })
      expect((await browser.open('/device')).html).toContain('<h1>Sign in</h1>')

      await browser.signIn(house.token)
      const { hidden } = await browser.open('/device')
      const out = await browser.open('/account/sign-out', { form_key: hidden['form_key']! })
      expect(out.status).toBe(303)
      expect((await browser.open('/device')).html).toContain('<h1>Sign in</h1>')

      await browser.signIn(house.token)
      const { form_key } = (await browser.open('/device')).hidden
      for (let i = 0; i < 10; i++)
        expect(
          (await browser.open('/device/code', { form_key: form_key!, user_code: 'BBBB-BBBB' }))
            .status,
        ).toBe(400)
      const { user_code } = await start()
      const locked = await browser.open('/device/code', { form_key: form_key!, user_code })
      expect(locked.status).toBe(401)
    })

    it('refuses forms of other sites and of other sessions, and never redirects to one', async () => {
      const { user_code, device_code } = await start()
      const browser = createBrowser(app)
      const away = await browser.open('/account/sign-in', {
        ...{ token: house.token, next: '//evil.example/' },
      })
      expect(away.headers.get('location')).toBe('/device')
      const { hidden } = await browser.open(`/device?user_code=${user_code}`)
      const form = { ...hidden, decision: 'allow', org: 'acme' }
      const cross = await browser.open('/device', form, { 'sec-fetch-site': 'cross-site' })
      expect(cross.status).toBe(403)
      const other = createBrowser(app)
      await other.signIn(house.token)
      expect((await other.open('/device', form)).status).toBe(403)
      expect((await createBrowser(app).open('/device', form)).status).toBe(401)
      expect((await poll(device_code)).body.error).toBe('authorization_pending')
    })

    it('answers what is not understood in the words of RFC 6749 and RFC 8628', async () => {
      const errors = async (
        path: 'device_authorization' | 'token',
        form: Record<string, string>,
      ) => {
        const { status, body } = await oauth(path, form)
        return [status, body.error]
      }
      expect(await errors('device_authorization', {})).toEqual([400, 'invalid_request'])
      expect(await errors('device_authorization', { client_id: 'x' })).toEqual([
        ...[400, 'invalid_client'],
      ])
      const scope = { client_id: 'graft-cli', scope: 'read root' }
      expect(await errors('device_authorization', scope)).toEqual([400, 'invalid_scope'])
      expect(await errors('token', { grant_type: 'password' })).toEqual([
        ...[400, 'unsupported_grant_type'],
      ])
      expect((await poll('nonsense')).body.error).toBe('invalid_grant')
      const json = await house.call('POST', '/oauth/token', { json: {} })
      expect([json.status, json.body.error]).toEqual([400, 'invalid_request'])
    })
  })
}

import { beforeAll, describe, expect, it } from 'vitest'
import { type App, furnish, type House } from './fixtures.ts'
import { CLIENT_SECRET, type LocalIssuer } from './local-issuer.ts'
import { createBrowser } from './sign-in.ts'

export const PUBLIC_URL = 'https://registry.test'
export const signInConfig = (issuer: LocalIssuer) => ({
  publicUrl: PUBLIC_URL,
  providers: [
    {
      ...{ id: 'corp', name: 'Corp', issuer: issuer.url },
      ...{ clientId: 'graft', clientSecret: CLIENT_SECRET },
    },
  ],
})

/** Signing in at another issuer over HTTP, for every platform. */
export function oidcSignInContract(
  platform: string,
  open: () => Promise<{ app: { request: App['request'] }; issuer: LocalIssuer }>,
) {
  describe(`sign-in by OpenID Connect on ${platform}`, () => {
    let app: { request: App['request'] }
    let issuer: LocalIssuer
    let house: House
    beforeAll(async () => {
      ;({ app, issuer } = await open())
      house = await furnish(app)
    })
    type Browser = ReturnType<typeof createBrowser>

    /** At the issuer and back: the path that the issuer sends the browser to. */
    async function visit(address: string): Promise<string> {
      const response = await fetch(address, { redirect: 'manual' })
      expect(response.status, await response.clone().text()).toBe(302)
      const back = response.headers.get('location')!
      expect(back.startsWith(`${PUBLIC_URL}/account/oidc/callback?`)).toBe(true)
      return back.slice(PUBLIC_URL.length)
    }
    const begin = async (browser: Browser) =>
      (await browser.open('/account/oidc/corp?next=/account')).headers.get('location')!
    async function signIn(browser: Browser) {
      return browser.open(await visit(await begin(browser)))
    }
    async function link(browser: Browser) {
      const { hidden } = await browser.open('/account')
      const page = await browser.open('/account/oidc/corp/link', {
        form_key: hidden['form_key']!,
      })
      const to = /<a href="(http[^"]+)">Continue/.exec(page.html)?.[1]
      return to ? browser.open(await visit(to.replaceAll('&amp;', '&'))) : page
    }

    it('links an identity to who is signed in, which from then on signs them in', async () => {
      issuer.state.subject = 'ada@corp'
      const stranger = await signIn(createBrowser(app))
      expect([stranger.status, stranger.set]).toEqual([403, expect.any(String)])
      expect(stranger.html).toContain('nobody’s here yet')

      const first = createBrowser(app)
      await first.signIn(house.token)
      expect((await link(first)).html).toContain('You are ada.')
      const browser = createBrowser(app)
      const back = await signIn(browser)
      expect(back.html).toContain('You are ada.')
      expect(back.html).toContain('<a href="/account">Continue</a>')
      const account = await browser.open('/account')
      expect(account.html).toContain('<code>ada@corp</code>')
      expect(account.html).toContain('acme: owner')
      expect((await browser.open('/device')).html).toContain('<strong>ada</strong>')
    })

    it('refuses an answer for another browser, one that comes twice, and a state that is not ours', async () => {
      const [browser, other] = [createBrowser(app), createBrowser(app)]
      const back = await visit(await begin(browser))
      await begin(other)
      expect((await other.open(back)).status).toBe(401)
      expect((await createBrowser(app).open(back)).status).toBe(401)
      expect((await browser.open(back.replace(/state=[^&]+/, 'state=guessed'))).status).toBe(401)
      const mixed = back.replace(/iss=[^&]+/, 'iss=https%3A%2F%2Felsewhere.test')
      expect((await browser.open(mixed)).status).toBe(401)
      const again = createBrowser(app)
      const once = await visit(await begin(again))
      expect((await again.open(once)).html).toContain('You are ada.')
      expect((await again.open(once)).status).toBe(401)
      const denied = await again.open('/account/oidc/callback?error=access_denied&state=x')
      expect([denied.status, denied.html.includes('access_denied')]).toEqual([401, true])
    })

    it('refuses an identity token with the wrong nonce, audience, party, issuer or time', async () => {
      const now = Math.floor(Date.now() / 1000)
      for (const claims of [
        { nonce: 'another' },
        { nonce: undefined },
        { aud: 'another-client' },
        { aud: ['graft', 'another-client'] },
        { azp: 'another-client' },
        { iss: 'https://elsewhere.test' },
        { exp: now - 120 },
        { iat: now + 120 },
      ]) {
        issuer.state.claims = claims
        const { status, html } = await signIn(createBrowser(app))
        expect([claims, status]).toEqual([claims, 401])
        expect(html).not.toContain('You are')
      }
      issuer.state.claims = {}
      expect((await signIn(createBrowser(app))).status).toBe(200)
    })

    it('links an identity to one user only, and not for a token that can do less than the user', async () => {
      const eve = await house.newcomer('eve', 'evil')
      const browser = createBrowser(app)
      await browser.signIn(eve.token)
      issuer.state.subject = 'ada@corp'
      const taken = await link(browser)
      expect([taken.status, taken.html.includes('another user')]).toEqual([401, true])
      // A session of a lesser token, as a device login gives them.
      const { body } = await house.call('DELETE', '/v1/orgs/evil/tokens', { token: eve.token })
      await browser.signIn(body.token)
      const asked = await app.request('/oauth/device_authorization', {
        method: 'POST',
        headers: { 'content-type': 'application/x-www-form-urlencoded' },
        body: 'client_id=graft-cli&scope=read',
      })
      const login = (await asked.json()) as { user_code: string; device_code: string }
      const shown = await browser.open(`/device?user_code=${login.user_code}`)
      await browser.open('/device', { ...shown.hidden, decision: 'allow', org: 'evil' })
      const given = await app.request('/oauth/token', {
        method: 'POST',
        headers: { 'content-type': 'application/x-www-form-urlencoded' },
        body: new URLSearchParams({
          grant_type: 'urn:ietf:params:oauth:grant-type:device_code',
          ...{ client_id: 'graft-cli', device_code: login.device_code },
        }).toString(),
      })
      const { access_token } = (await given.json()) as { access_token: string }
      const lesser = createBrowser(app)
      await lesser.signIn(access_token)
      const page = await lesser.open('/account')
      expect(page.html).not.toContain('Link Corp')
      const form = { form_key: page.hidden['form_key']! }
      expect((await lesser.open('/account/oidc/corp/link', form)).status).toBe(403)
      expect((await lesser.open('/account/oidc/corp/link', { form_key: 'x' })).status).toBe(403)
    })

    // The last: it ends the token that all others use.
    it('ends with all tokens of an organisation, since a browser could let a program in again', async () => {
      issuer.state.subject = 'ada@corp'
      const browser = createBrowser(app)
      await signIn(browser)
      expect((await browser.open('/device')).html).toContain('<strong>ada</strong>')
      await house.call('DELETE', '/v1/orgs/acme/tokens', { token: house.token })
      expect((await browser.open('/device')).html).toContain('<h1>Sign in</h1>')
    })
  })
}

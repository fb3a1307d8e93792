import { afterAll, expect, it } from 'vitest'
import { furnish, ISSUER, openRegistry } from './fixtures.ts'
import { startIssuer } from './local-issuer.ts'
import { oauthOf } from './sign-in.ts'
import { trustedPublishingContract } from './trusted-publishing.ts'

const closing: (() => unknown)[] = []
afterAll(async () => {
  for (const close of closing.reverse()) await close()
})

async function open(clock = () => new Date(), alg = 'RS256') {
  const [issuer, stranger] = [await startIssuer(alg), await startIssuer()]
  const registry = await openRegistry({ clock, trustedIssuers: [issuer.url] })
  closing.push(issuer.close, stranger.close, registry.close)
  return { app: registry.app, issuer, stranger }
}

trustedPublishingContract('Node', () => open())

it('keeps an issuer’s keys, asks again for a new one but not for every stranger’s, and outlives its absence', async () => {
  let shift = 0
  const clock = () => new Date(Date.now() + shift)
  const { app, issuer } = await open(clock, 'ES256')
  const { call, token } = await furnish(app)
  const json = { issuer: issuer.url, claims: { repository: 'acme/adapters' } }
  await call('POST', '/v1/packages/@acme/sql/publishers', { token, json })
  let jti = 0
  async function exchange(header: object = {}) {
    const iat = Math.floor(clock().getTime() / 1000)
    const claims = { iss: issuer.url, aud: ISSUER, iat, exp: iat + 60, sub: 's', jti: `${++jti}` }
    const signed = await issuer.sign({ ...claims, repository: 'acme/adapters' }, header)
    return (
      await oauthOf(app)('token', {
        grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
        subject_token_type: 'urn:ietf:params:oauth:token-type:id_token',
        ...{ subject_token: signed, audience: '@acme/sql' },
      })
    ).status
  }
  for (let i = 0; i < 5; i++) expect(await exchange()).toBe(200)
  expect(issuer.state.keySets).toBe(1)
  for (let i = 0; i < 5; i++) expect(await exchange({ kid: `stranger-${i}` })).toBe(400)
  expect(issuer.state.keySets).toBe(1)
  shift += 31_000
  await issuer.rotate()
  expect(await exchange()).toBe(200)
  expect(issuer.state.keySets).toBe(2)
  issuer.state.down = true
  shift += 3_600_000
  expect(await exchange()).toBe(200)
  shift += 25 * 3_600_000
  expect(await exchange()).toBe(503)
  issuer.state.down = false
  issuer.state.discovery = { issuer: 'https://elsewhere.test' }
  expect(await exchange()).toBe(503)
})

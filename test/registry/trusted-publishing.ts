import { generateKeyPair } from 'jose'
import { beforeAll, describe, expect, it } from 'vitest'
import {
  type App,
  adapter,
  furnish,
  type House,
  ISSUER,
  publish,
  publishRequest,
} from './fixtures.ts'
import type { LocalIssuer } from './local-issuer.ts'
import { oauthOf } from './sign-in.ts'

const EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange'
const ID_TOKEN = 'urn:ietf:params:oauth:token-type:id_token'
const CLAIMS = {
  repository: 'acme/adapters',
  ref: 'refs/tags/v1.0.0',
  environment: 'release',
  sub: 'repo:acme/adapters:environment:release',
}

/** Trusted publishing over HTTP, for every platform. The registry trusts `issuer` and no other. */
export function trustedPublishingContract(
  platform: string,
  open: () => Promise<{
    app: { request: App['request'] }
    issuer: LocalIssuer
    stranger: LocalIssuer
  }>,
) {
  describe(`trusted publishing on ${platform}`, () => {
    let house: House
    let issuer: LocalIssuer
    let stranger: LocalIssuer
    let oauth: ReturnType<typeof oauthOf>
    beforeAll(async () => {
      const opened = await open()
      ;({ issuer, stranger } = opened)
      house = await furnish(opened.app)
      oauth = oauthOf(opened.app)
      await house.call('POST', '/v1/packages/@acme/sql/publishers', {
        ...{ token: house.token, json: rule() },
      })
    })
    const rule = (claims: object = { repository: 'acme/adapters', ref: 'refs/tags/v*' }) => ({
      issuer: issuer.url,
      claims,
    })
    let jtis = 0
    const claimsOf = (more: object = {}) => {
      const iat = Math.floor(Date.now() / 1000)
      const times = { iat, exp: iat + 300, jti: `run-${++jtis}` }
      return { iss: issuer.url, aud: ISSUER, ...times, ...CLAIMS, ...more }
    }
    const exchange = (subject_token: string, audience = '@acme/sql') =>
      oauth('token', {
        ...{ grant_type: EXCHANGE, subject_token_type: ID_TOKEN, subject_token, audience },
      })
    /** What an identity token with these claims is answered: an error code, or "given". */
    const outcome = async (more: object, header?: object) => {
      const { body } = await exchange(await issuer.sign(claimsOf(more), header))
      return body.error ?? 'given'
    }

    it('gives a CI run a token that publishes the package of the rule, from nothing kept', async () => {
      const given = await exchange(await issuer.sign(claimsOf()))
      expect(given.body).toMatchObject({
        issued_token_type: 'urn:ietf:params:oauth:token-type:access_token',
        ...{ token_type: 'Bearer', expires_in: 900, scope: 'publish' },
      })
      const token = given.body.access_token as string
      const sql = await adapter({ base: house.base })
      const published = await publish(house.call, token, sql, await publishRequest(sql, house.key))
      expect(published.body).toMatchObject({ state: 'published', digest: sql.digest })
      const tag = await house.call('PUT', '/v1/packages/@acme/sql/tags/stable', {
        ...{ token, json: { version: '1.0.0' } },
      })
      expect(tag.status).toBe(200)
    })

    it('and that does nothing else, whatever the member could who made the rule', async () => {
      const token = (await exchange(await issuer.sign(claimsOf()))).body.access_token as string
      const other = await adapter({ base: house.base, name: '@acme/other', seed: 3 })
      const request = await publishRequest(other, house.key)
      const refused = await publish(house.call, token, other, request)
      expect(refused.body.error.code).toBe('ERR_FORBIDDEN')
      // Nor does it touch an upload of another package that is under way.
      const started = await house.call('POST', '/v1/publish', { token: house.token, json: request })
      const { id } = started.body
      const secret = await adapter({ base: house.base, name: '@acme/secret', seed: 5 })
      const hidden = await publishRequest(secret, house.key, { visibility: 'private' })
      await publish(house.call, house.token, secret, hidden)
      for (const [method, path, json] of [
        ['DELETE', `/v1/publish/${id}`],
        ['POST', `/v1/publish/${id}/complete`],
        ['PUT', '/v1/packages/@acme/other/tags/x', { version: '1.0.0' }],
        ['PUT', '/v1/packages/@acme/sql/versions/1.0.0/yank', { reason: 'x' }],
        ['POST', '/v1/orgs/acme/keys', { jwk: house.key.publicJwk }],
        ['POST', '/v1/bases', house.base],
        ['POST', '/v1/orgs', { name: 'mine' }],
        ['GET', '/v1/orgs/acme/members'],
        ['GET', '/v1/tokens'],
        ['POST', '/v1/tokens', { org: 'acme', name: 'x', scopes: ['publish'], expiresIn: 60 }],
        ['POST', '/v1/capabilities', { manifest: secret.digest }],
        ['POST', '/v1/packages/@acme/sql/publishers', rule()],
      ] as const) {
        const answer = await house.call(method, path, { token, ...(json ? { json } : {}) })
        expect([path, answer.body.error?.code]).toEqual([path, 'ERR_FORBIDDEN'])
      }
      const read = await house.call('GET', '/v1/packages/@acme/secret', { token })
      expect(read.body.error.code).toBe('ERR_PACKAGE_UNKNOWN')
    })

    it('once per identity token, however many ask at once', async () => {
      const token = await issuer.sign(claimsOf())
      const answers = await Promise.all([1, 2, 3].map(() => exchange(token)))
      expect(answers.map(({ status }) => status).sort()).toEqual([200, 400, 400])
      const again = await exchange(token)
      expect(again.body).toMatchObject({
        error: 'invalid_grant',
        error_description: 'this identity token was used before',
      })
      expect(await outcome({ jti: undefined })).toBe('invalid_grant')
    })

    it('only to a workload that has every claim of the rule', async () => {
      expect(await outcome({ repository: 'acme/adapters2' })).toBe('invalid_target')
      expect(await outcome({ repository: ['acme/adapters'] })).toBe('invalid_target')
      expect(await outcome({ repository: undefined })).toBe('invalid_target')
      expect(await outcome({ ref: 'refs/heads/main' })).toBe('invalid_target')
      const unruled = await exchange(await issuer.sign(claimsOf()), '@acme/other')
      expect(unruled.body.error).toBe('invalid_target')
      const noName = await exchange(await issuer.sign(claimsOf()), 'sql')
      expect(noName.body.error).toBe('invalid_target')
      expect(await outcome({})).toBe('given')
    })

    it('and only for a token of a listed issuer, for this registry, in its time, signed by its keys', async () => {
      const now = Math.floor(Date.now() / 1000)
      expect(await outcome({ aud: 'https://elsewhere.test' })).toBe('invalid_request')
      expect(await outcome({ aud: [ISSUER, 'https://elsewhere.test'] })).toBe('invalid_request')
      expect(await outcome({ azp: 'somebody' })).toBe('invalid_request')
      expect(await outcome({ exp: now - 61, iat: now - 300 })).toBe('invalid_request')
      expect(await outcome({ iat: now + 120 })).toBe('invalid_request')
      expect(await outcome({ nbf: now + 120 })).toBe('invalid_request')
      expect(await outcome({ exp: now + 90_000 })).toBe('invalid_request')
      expect(await outcome({ iat: undefined })).toBe('invalid_request')
      expect(await outcome({ iss: stranger.url })).toBe('invalid_request')
      expect(await outcome({}, { kid: 'unknown' })).toBe('invalid_request')
      const foreign = await stranger.sign({ ...claimsOf(), iss: stranger.url })
      expect((await exchange(foreign)).body.error_description).toContain('not trusted here')
      expect(stranger.state.keySets).toBe(0)
      const forged = (await generateKeyPair('RS256')).privateKey
      const forgery = await exchange(await issuer.sign(claimsOf(), {}, forged as never))
      expect(forgery.body.error).toBe('invalid_request')
      const [, body] = (await issuer.sign(claimsOf())).split('.')
      const none = `${btoa('{"alg":"none","kid":"first"}').replace(/=+$/, '')}.${body}.`
      expect((await exchange(none)).body.error).toBe('invalid_request')
      expect((await exchange('x'.repeat(17_000))).body.error).toBe('invalid_request')
    })

    it('until the rule is taken away, or the member who made it may publish no more', async () => {
      const path = '/v1/packages/@acme/fresh/publishers'
      const own = await house.call('POST', path, { token: house.token, json: rule() })
      expect(own.body).toMatchObject({ package: '@acme/fresh', createdBy: 'ada', ...rule() })
      expect((await house.call('GET', path, { token: house.token })).body.publishers).toEqual([
        own.body,
      ])
      const fresh = await exchange(await issuer.sign(claimsOf()), '@acme/fresh')
      expect(fresh.status).toBe(200)
      const gone = () => house.call('DELETE', `${path}/${own.body.id}`, { token: house.token })
      expect((await gone()).status).toBe(200)
      expect((await gone()).body.error.code).toBe('ERR_NAME_UNKNOWN')
      const after = await exchange(await issuer.sign(claimsOf()), '@acme/fresh')
      expect(after.body.error).toBe('invalid_target')

      const invited = await house.call('POST', '/v1/orgs/acme/invitations', {
        ...{ token: house.token, json: { role: 'admin', expiresIn: 60 } },
      })
      const max = await house.call('POST', '/v1/invitations/accept', {
        json: { code: invited.body.code, user: 'max' },
      })
      await house.call('POST', path, { token: max.body.token, json: rule() })
      const { body } = await exchange(await issuer.sign(claimsOf()), '@acme/fresh')
      const who = () => house.call('GET', '/v1/whoami', { token: body.access_token })
      expect((await who()).body).toMatchObject({ tenant: 'acme', scopes: ['publish'] })
      await house.call('POST', '/v1/orgs/acme/members', {
        ...{ token: house.token, json: { user: 'max', role: 'reader' } },
      })
      expect((await who()).status).toBe(401)
      const demoted = await exchange(await issuer.sign(claimsOf()), '@acme/fresh')
      expect(demoted.body.error).toBe('invalid_target')
    })

    it('refuses rules that trust an unlisted issuer, or everybody', async () => {
      const add = async (json: object, token = house.token) =>
        (await house.call('POST', '/v1/packages/@acme/sql/publishers', { token, json })).body.error
          ?.code
      expect(await add({ ...rule(), issuer: stranger.url })).toBe('ERR_REQUEST_INVALID')
      expect(await add(rule({ ref: 'refs/heads/main' }))).toBe('ERR_REQUEST_INVALID')
      expect(await add(rule({ repository: '*' }))).toBe('ERR_REQUEST_INVALID')
      expect(await add(rule({ repository: 'a*b' }))).toBe('ERR_REQUEST_INVALID')
      const eve = await house.newcomer('eve', 'evil')
      expect(await add(rule(), eve.token)).toBe('ERR_FORBIDDEN')
      const publisher = await house.tokenWith(['publish'])
      expect(await add(rule(), publisher.token)).toBe('ERR_FORBIDDEN')
    })
  })
}

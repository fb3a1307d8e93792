import { statSync } from 'node:fs'
import { join } from 'node:path'
import { createNodeRegistry } from '@graft/registry/node/create-node-registry.ts'
import {
  decodeUnverified,
  exportSigningKey,
  generateSigningKey,
  signJwt,
  verifyJwt,
} from '@graft/sdk/format/jws.ts'
import { JWS_TYPES } from '@graft/sdk/format/manifest.ts'
import type { AccessClaims } from '@graft/sdk/protocol/tokens.ts'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { httpClient, ISSUER, openHouse, SETUP_CODE, temporaryFolder } from './fixtures.ts'

let house: Awaited<ReturnType<typeof openHouse>>
let now = new Date('2026-03-01T00:00:00Z')
beforeAll(async () => {
  house = await openHouse({ clock: () => now })
})
afterAll(() => house.close())

const codeOf = async (answer: ReturnType<typeof house.call>) => (await answer).body.error?.code

describe('setting up', () => {
  it('lets in whoever has the code, once, however many ask at once', async () => {
    const folder = temporaryFolder()
    const options = { stateDir: folder.path, issuerName: ISSUER, setupCode: SETUP_CODE }
    const registry = await createNodeRegistry(options)
    const call = httpClient(registry.app)
    const setup = (code: string, user = 'ada') =>
      call('POST', '/v1/setup', { json: { code, user, org: `${user}-co` } })
    expect((await setup('let-me-im')).body.error.code).toBe('ERR_UNAUTHENTICATED')
    const answers = await Promise.all(['ada', 'bob', 'cyd'].map((user) => setup(SETUP_CODE, user)))
    expect(answers.map((answer) => answer.status).sort()).toEqual([200, 409, 409])
    expect((await setup(SETUP_CODE, 'dan')).body.error.code).toBe('ERR_SETUP_DONE')
    expect((await setup('wrong', 'dan')).body.error.code).toBe('ERR_SETUP_DONE')
    await registry.close()
    folder.clean()
  })

  it('is closed without a code', async () => {
    const folder = temporaryFolder()
    const registry = await createNodeRegistry({ stateDir: folder.path, issuerName: ISSUER })
    const json = { code: '', user: 'ada', org: 'acme' }
    const answer = await httpClient(registry.app)('POST', '/v1/setup', { json })
    expect(answer.body.error.code).toBe('ERR_UNAUTHENTICATED')
    await registry.close()
    folder.clean()
  })
})

describe('tokens', () => {
  it('are verified offline by the published keys and say who, where and until when', async () => {
    const { call, token } = house
    const { keys } = (await call('GET', '/.well-known/jwks.json')).body
    expect(keys).toEqual([house.registry.issuer.publicJwk])
    expect(keys[0].d).toBeUndefined()
    const claims = await verifyJwt<AccessClaims>(token, JWS_TYPES.accessToken, keys, { now })
    expect(claims).toMatchObject({ iss: ISSUER, sub: 'user:ada', tenant: 'acme', epoch: 1 })
    expect((await call('GET', '/v1/whoami', { token })).body).toEqual({
      sub: 'user:ada',
      tenant: 'acme',
      scopes: ['infer', 'read', 'publish', 'admin', 'ledger'],
      orgs: [{ name: 'acme', role: 'owner' }],
    })
  })

  it('never give more than the token that made them has', async () => {
    const { call } = house
    const publisher = await house.tokenWith(['read', 'publish'], 600)
    const { token } = publisher
    const make = (scopes: string[], expiresIn: number, org = 'acme') =>
      call('POST', '/v1/tokens', { token, json: { org, name: 'ci', scopes, expiresIn } })
    expect(await codeOf(make(['admin'], 60))).toBe('ERR_FORBIDDEN')
    expect(await codeOf(make(['infer'], 60))).toBe('ERR_FORBIDDEN')
    expect(await codeOf(make(['read'], 601))).toBe('ERR_FORBIDDEN')
    expect(await codeOf(make(['read'], 60, 'other'))).toBe('ERR_FORBIDDEN')
    const child = await make(['read'], 600)
    expect(child.status).toBe(200)
    const { payload } = decodeUnverified<AccessClaims>(child.body.token)
    expect(payload).toMatchObject({ sub: `token:${child.body.jti}`, scopes: ['read'] })
    const tooLong = { org: 'acme', name: 'x', scopes: ['read'], expiresIn: 367 * 86_400 }
    const asked = call('POST', '/v1/tokens', { token: house.token, json: tooLong })
    expect(await codeOf(asked)).toBe('ERR_REQUEST_INVALID')
  })

  it('end when they expire, when they are revoked, and when the organisation revokes all', async () => {
    const { call } = house
    const who = (token: string) => call('GET', '/v1/whoami', { token })
    const [short, revoked] = [await house.tokenWith(['read'], 60), await house.tokenWith(['read'])]
    expect((await who(short.token)).status).toBe(200)
    now = new Date(now.getTime() + 61_000)
    expect(await codeOf(who(short.token))).toBe('ERR_TOKEN_EXPIRED')

    const before = await call('GET', '/v1/revocations')
    expect(before.body).toEqual({ tokens: [], epochs: {} })
    const etag = before.headers.get('etag')!
    const same = await call('GET', '/v1/revocations', { headers: { 'if-none-match': etag } })
    expect(same.status).toBe(304)
    for (let i = 0; i < 2; i++)
      expect(
        (await call('DELETE', `/v1/tokens/${revoked.jti}`, { token: house.token })).status,
      ).toBe(200)
    expect(await codeOf(who(revoked.token))).toBe('ERR_UNAUTHENTICATED')
    const after = await call('GET', '/v1/revocations', { headers: { 'if-none-match': etag } })
    expect(after.body).toEqual({ tokens: [revoked.jti], epochs: {} })

    const eve = await house.newcomer('eve', 'evil')
    const foreign = call('DELETE', '/v1/orgs/acme/tokens', { token: eve.token })
    expect(await codeOf(foreign)).toBe('ERR_FORBIDDEN')
    const strangers = call('DELETE', `/v1/tokens/${revoked.jti}`, { token: eve.token })
    expect(await codeOf(strangers)).toBe('ERR_NAME_UNKNOWN')
    const fresh = await call('DELETE', '/v1/orgs/evil/tokens', { token: eve.token })
    expect((await who(fresh.body.token)).body).toMatchObject({ sub: 'user:eve', tenant: 'evil' })
    expect(await codeOf(who(eve.token))).toBe('ERR_UNAUTHENTICATED')
    expect((await call('GET', '/v1/revocations')).body.epochs).toEqual({ evil: 2 })
    expect((await who(house.token)).status).toBe(200)
  })

  it('of another issuer, of another kind, unsigned or never recorded are refused', async () => {
    const { call, registry } = house
    const { payload } = decodeUnverified<AccessClaims>(house.token)
    const forged = await signJwt(payload, JWS_TYPES.accessToken, await generateSigningKey())
    const kind = await signJwt(payload, JWS_TYPES.fleet, registry.issuer)
    const elsewhere = { ...payload, iss: 'https://elsewhere.test' }
    const other = await signJwt(elsewhere, JWS_TYPES.accessToken, registry.issuer)
    const unknown = { ...payload, jti: 'never-made' }
    const unrecorded = await signJwt(unknown, JWS_TYPES.accessToken, registry.issuer)
    const [header, body] = house.token.split('.')
    const raised = { ...payload, tenant: 'evil' }
    const moved = await signJwt(raised, JWS_TYPES.accessToken, registry.issuer)
    for (const token of [forged, kind, other, unrecorded, moved, `${header}.${body}.AAAA`, 'x'])
      for (const path of ['/v1/whoami', '/v1/packages', `/v1/blobs/sha256:${'0'.repeat(64)}`]) {
        const answer = await call('GET', path, { token })
        expect(answer.body.error.code, `${path} ${token}`).toBe('ERR_UNAUTHENTICATED')
        expect(answer.headers.get('www-authenticate')).toBe('Bearer')
      }
  })
})

describe('organisations', () => {
  it('and users have one name each, however many ask for it at once', async () => {
    const { call, token } = house
    const orgs = [1, 2, 3].map(() => call('POST', '/v1/orgs', { token, json: { name: 'newco' } }))
    expect((await Promise.all(orgs)).map((answer) => answer.status).sort()).toEqual([200, 409, 409])
    const user = (org: string) => call('POST', '/v1/users', { token, json: { user: 'zoe', org } })
    const answers = await Promise.all(['zoe-a', 'zoe-b'].map(user))
    expect(answers.map((answer) => answer.status).sort()).toEqual([200, 409])
    const held = answers[0]!.status === 200 ? 'zoe-a' : 'zoe-b'
    const intruder = { user: 'yan', org: held }
    expect(await codeOf(call('POST', '/v1/users', { token, json: intruder }))).toBe(
      'ERR_NAME_TAKEN',
    )
    expect(await codeOf(call('POST', '/v1/orgs', { token, json: { name: 'New_Co' } }))).toBe(
      'ERR_REQUEST_INVALID',
    )
    const json = { org: 'newco', name: 'ci', scopes: ['publish'], expiresIn: 60 }
    expect((await call('POST', '/v1/tokens', { token, json })).status).toBe(200)
  })

  it('give members a role, which bounds what their tokens can do from then on', async () => {
    const { call, token } = house
    await house.newcomer('bob', 'bobco')
    const member = (user: string, role: string) =>
      call('POST', '/v1/orgs/acme/members', { token, json: { user, role } })
    expect(await codeOf(member('nobody', 'reader'))).toBe('ERR_NAME_UNKNOWN')
    expect(await codeOf(member('ada', 'reader'))).toBe('ERR_FORBIDDEN')
    expect((await member('bob', 'owner')).status).toBe(200)
    expect((await member('ada', 'reader')).status).toBe(200)
    // Her tokens of more than a reader's scopes died with the role.
    const who = await call('GET', '/v1/whoami', { token })
    expect(who.body.error.code).toBe('ERR_UNAUTHENTICATED')
  })
})

describe('publisher keys', () => {
  it('are refused when they are private, off the curve or under another name', async () => {
    const fresh = await openHouse()
    const { call, token } = fresh
    const post = (json: unknown) => codeOf(call('POST', '/v1/orgs/acme/keys', { token, json }))
    const key = await generateSigningKey('ES256')
    expect(await post({ jwk: await exportSigningKey(key) })).toBe('ERR_REQUEST_INVALID')
    const off = { ...key.publicJwk, y: key.publicJwk.x }
    expect(await post({ jwk: off })).toBe('ERR_REQUEST_INVALID')
    expect(await post({ jwk: key.publicJwk, kid: 'mine' })).toBe('ERR_REQUEST_INVALID')
    const known = (await call('GET', '/v1/orgs/acme/keys')).body.keys
    expect(known).toMatchObject([{ kid: fresh.key.kid, status: 'active' }])
    expect(await codeOf(call('GET', '/v1/orgs/nobody/keys'))).toBe('ERR_NAME_UNKNOWN')
    await fresh.close()
  })
})

describe('the state folder', () => {
  it('keeps the issuer key for its owner alone, and a restart knows every token', async () => {
    const folder = temporaryFolder()
    const options = { stateDir: folder.path, issuerName: ISSUER, setupCode: SETUP_CODE }
    const first = await createNodeRegistry(options)
    const json = { code: SETUP_CODE, user: 'ada', org: 'acme' }
    const { token } = (await httpClient(first.app)('POST', '/v1/setup', { json })).body
    await first.close()
    if (process.platform !== 'win32')
      expect(statSync(join(folder.path, 'issuer-key.json')).mode & 0o777).toBe(0o600)
    const second = await createNodeRegistry(options)
    expect(second.issuer.kid).toBe(first.issuer.kid)
    expect((await httpClient(second.app)('GET', '/v1/whoami', { token })).status).toBe(200)
    await second.close()
    folder.clean()
  })
})

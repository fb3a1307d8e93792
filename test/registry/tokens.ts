import { decodeUnverified } from '@graft/sdk/format/jws.ts'
import type { TokenRecord } from '@graft/sdk/protocol/registry-api.ts'
import type { AccessClaims } from '@graft/sdk/protocol/tokens.ts'
import { beforeAll, describe, expect, it } from 'vitest'
import { type App, furnish, type House } from './fixtures.ts'

/** Listing and renewing tokens over HTTP, for every platform. */
export function tokensContract(
  platform: string,
  open: () => Promise<{ app: { request: App['request'] } }>,
) {
  describe(`tokens on ${platform}`, () => {
    let house: House
    beforeAll(async () => {
      house = await furnish((await open()).app)
    })
    const list = async (token: string, query = '') =>
      (await house.call('GET', `/v1/tokens${query}`, { token })).body

    it('are listed to their own user, to an administrator all, page by page, never with the token', async () => {
      const { call, token } = house
      const made = [await house.tokenWith(['read']), await house.tokenWith(['read'], 60)]
      await call('GET', '/v1/whoami', { token: made[0]!.token })
      await call('DELETE', `/v1/tokens/${made[1]!.jti}`, { token })
      const { tokens } = (await list(token)) as { tokens: TokenRecord[] }
      expect(tokens).toHaveLength(3)
      const read = tokens.find(({ jti }) => jti === made[0]!.jti)!
      expect(read).toEqual({
        ...{ jti: made[0]!.jti, name: 'test', user: 'ada', scopes: ['read'] },
        createdAt: expect.any(String),
        expiresAt: made[0]!.expiresAt,
        lastUsedAt: expect.any(String),
      })
      const dead = tokens.find(({ jti }) => jti === made[1]!.jti)!
      expect([dead.lastUsedAt, dead.revokedAt]).toEqual([null, expect.any(String)])
      const pages = [await list(token, '?limit=2')]
      pages.push(await list(token, `?limit=2&after=${pages[0].next}`))
      expect(pages.flatMap((page) => page.tokens)).toEqual(tokens)
      expect(pages[1].next).toBeUndefined()

      await house.newcomer('bob', 'bobco')
      await call('POST', '/v1/orgs/acme/members', { token, json: { user: 'bob', role: 'reader' } })
      const bobs = await house.newcomer('cyd', 'cydco')
      expect((await list(bobs.token)).tokens.map((row: TokenRecord) => row.user)).toEqual(['cyd'])
      const stranger = await list(bobs.token, `?after=${made[0]!.jti}`)
      expect(stranger.error.code).toBe('ERR_REQUEST_INVALID')
      expect((await list(token, '?limit=0')).error.code).toBe('ERR_REQUEST_INVALID')
    })

    it('are renewed once, by their own user: the old one dies as the new one is given', async () => {
      const { call, token } = house
      const old = await house.tokenWith(['read', 'infer'], 3600)
      const rotate = (jti: string, by: string) =>
        call('POST', `/v1/tokens/${jti}/rotate`, { token: by })
      const answers = await Promise.all([1, 2, 3].map(() => rotate(old.jti, old.token)))
      const good = answers.filter(({ status }) => status === 200)
      expect(good).toHaveLength(1)
      const fresh = good[0]!.body
      expect((await call('GET', '/v1/whoami', { token: old.token })).status).toBe(401)
      const { payload } = decodeUnverified<AccessClaims>(fresh.token)
      expect(payload).toMatchObject({
        ...{ tenant: 'acme', scopes: ['read', 'infer'], sub: `token:${fresh.jti}` },
      })
      // As long as the old one would have lived.
      expect(Date.parse(fresh.expiresAt)).toBe(Date.parse(old.expiresAt))
      expect((await call('GET', '/v1/whoami', { token: fresh.token })).status).toBe(200)
      const living = (await list(token)).tokens.filter(
        (row: TokenRecord) => row.revokedAt === undefined && row.name === 'test',
      )
      expect(living.map((row: TokenRecord) => row.jti)).toContain(fresh.jti)
      const { revoked } = { revoked: (await call('GET', '/v1/revocations')).body.tokens }
      expect(revoked).toContain(old.jti)

      const byAdmin = await rotate(fresh.jti, token)
      expect(Date.parse(byAdmin.body.expiresAt)).toBeGreaterThanOrEqual(Date.parse(fresh.expiresAt))
      const eve = await house.newcomer('eve', 'evil')
      expect((await rotate(byAdmin.body.jti, eve.token)).body.error.code).toBe('ERR_NAME_UNKNOWN')
      const narrow = await house.tokenWith(['infer'])
      const wide = await house.tokenWith(['read', 'publish'])
      expect((await rotate(wide.jti, narrow.token)).body.error.code).toBe('ERR_FORBIDDEN')
      // A person's stays a person's.
      const own = await rotate(decodeUnverified<AccessClaims>(eve.token).payload.jti, eve.token)
      expect(decodeUnverified<AccessClaims>(own.body.token).payload.sub).toBe('user:eve')
    })
  })
}

import { beforeAll, describe, expect, it } from 'vitest'
import { type App, adapter, furnish, type House, publish, publishRequest } from './fixtures.ts'

/** Roles, members and invitations over HTTP, for every platform. */
export function membersContract(
  platform: string,
  open: () => Promise<{ app: { request: App['request'] } }>,
) {
  describe(`members on ${platform}`, () => {
    let house: House
    beforeAll(async () => {
      house = await furnish((await open()).app)
    })
    const invite = async (role: string, token = house.token, expiresIn = 3600) =>
      house.call('POST', '/v1/orgs/acme/invitations', { token, json: { role, expiresIn } })
    const join = (json: object, token?: string) =>
      house.call('POST', '/v1/invitations/accept', { json, ...(token ? { token } : {}) })
    const member = (user: string, role: string, token = house.token) =>
      house.call('POST', '/v1/orgs/acme/members', { token, json: { user, role } })
    const codeOf = async (answer: ReturnType<typeof member>) => (await answer).body.error?.code
    /** A new member of that role, with their token. */
    async function joined(user: string, role: string): Promise<string> {
      const { code } = (await invite(role)).body
      return (await join({ code, user })).body.token
    }

    it('sign up by an invitation, once per code, however many try at once', async () => {
      const invited = await invite('publisher')
      expect(invited.status).toBe(200)
      expect(invited.headers.get('cache-control')).toBe('no-store')
      const { code, id } = invited.body
      const waiting = async () =>
        (await house.call('GET', '/v1/orgs/acme/invitations', { token: house.token })).body
      expect((await waiting()).invitations).toEqual([
        {
          ...{ id, role: 'publisher', createdBy: 'ada' },
          createdAt: expect.any(String),
          expiresAt: invited.body.expiresAt,
        },
      ])
      expect(JSON.stringify(await waiting())).not.toContain(code)
      const answers = await Promise.all(['bob', 'bea', 'ben'].map((user) => join({ code, user })))
      expect(answers.map(({ status }) => status).sort()).toEqual([200, 404, 404])
      const { token, user, org, role } = answers.find(({ status }) => status === 200)!.body
      expect([org, role]).toEqual(['acme', 'publisher'])
      const who = await house.call('GET', '/v1/whoami', { token })
      expect(who.body).toEqual({
        ...{ sub: `user:${user}`, tenant: 'acme', scopes: ['infer', 'read', 'publish'] },
        orgs: [{ name: 'acme', role: 'publisher' }],
      })
      expect((await waiting()).invitations).toEqual([])
      // The losers' names were not taken by the attempt.
      const second = (await invite('reader')).body.code
      const loser = ['bob', 'bea', 'ben'].find((name) => name !== user)!
      expect((await join({ code: second, user })).body.error.code).toBe('ERR_NAME_TAKEN')
      expect((await join({ code: second, user: loser })).status).toBe(200)
    })

    it('join further organisations with a token of their own, but no program does', async () => {
      const eve = await house.newcomer('eve', 'evil')
      const { code } = (await invite('reader')).body
      expect(await codeOf(join({ code }))).toBe('ERR_REQUEST_INVALID')
      expect(await codeOf(join({ code, user: 'x' }, eve.token))).toBe('ERR_REQUEST_INVALID')
      const program = await house.call('POST', '/v1/tokens', {
        token: eve.token,
        json: { org: 'evil', name: 'ci', scopes: ['read'], expiresIn: 60 },
      })
      expect(await codeOf(join({ code }, program.body.token))).toBe('ERR_FORBIDDEN')
      expect((await join({ code }, eve.token)).body).toMatchObject({ user: 'eve', role: 'reader' })
      const again = (await invite('owner')).body.code
      expect(await codeOf(join({ code: again }, eve.token))).toBe('ERR_NAME_TAKEN')
    })

    it('cannot join by a code that was withdrawn, or whose giver lost the right to give it', async () => {
      const { code, id } = (await invite('reader')).body
      const path = `/v1/orgs/acme/invitations/${id}`
      expect((await house.call('DELETE', path, { token: house.token })).status).toBe(200)
      expect(await codeOf(house.call('DELETE', path, { token: house.token }))).toBe(
        'ERR_NAME_UNKNOWN',
      )
      expect(await codeOf(join({ code, user: 'late' }))).toBe('ERR_NAME_UNKNOWN')
      expect(await codeOf(join({ code: 'nonsense', user: 'late' }))).toBe('ERR_NAME_UNKNOWN')

      const adminToken = await joined('ann', 'admin')
      const byAnn = (await invite('publisher', adminToken)).body.code
      await member('ann', 'reader')
      expect(await codeOf(join({ code: byAnn, user: 'late' }))).toBe('ERR_FORBIDDEN')
    })

    it('of the role admin run the organisation, but not its owners, admins, money or past', async () => {
      const admin = await joined('abe', 'admin')
      const who = await house.call('GET', '/v1/whoami', { token: admin })
      expect(who.body.scopes).toEqual(['infer', 'read', 'publish', 'admin'])
      await joined('pat', 'reader')
      expect((await member('pat', 'publisher', admin)).status).toBe(200)
      expect(await codeOf(member('pat', 'admin', admin))).toBe('ERR_FORBIDDEN')
      expect(await codeOf(member('ada', 'reader', admin))).toBe('ERR_FORBIDDEN')
      expect(await codeOf(member('abe', 'owner', admin))).toBe('ERR_FORBIDDEN')
      expect((await invite('owner', admin)).body.error.code).toBe('ERR_FORBIDDEN')
      expect((await invite('admin', admin)).body.error.code).toBe('ERR_FORBIDDEN')
      expect((await invite('reader', admin)).status).toBe(200)
      const remove = (user: string, token: string) =>
        house.call('DELETE', `/v1/orgs/acme/members/${user}`, { token })
      expect(await codeOf(remove('ada', admin))).toBe('ERR_FORBIDDEN')

      const sql = await adapter({ base: house.base })
      const { status } = await publish(
        house.call,
        house.token,
        sql,
        await publishRequest(sql, house.key),
      )
      expect(status).toBe(200)
      const tombstone = (token: string) =>
        house.call('PUT', '/v1/packages/@acme/sql/versions/1.0.0/tombstone', {
          ...{ token, json: { reason: 'leaked' } },
        })
      expect(await codeOf(tombstone(admin))).toBe('ERR_FORBIDDEN')
      expect((await tombstone(house.token)).status).toBe(200)
    })

    it('of lower roles can list members and nothing more; strangers not even that', async () => {
      const reader = await joined('rae', 'reader')
      const list = (token: string) => house.call('GET', '/v1/orgs/acme/members', { token })
      const { members } = (await list(reader)).body
      expect(members).toContainEqual({ user: 'ada', role: 'owner', since: expect.any(String) })
      expect((await invite('reader', reader)).body.error.code).toBe('ERR_FORBIDDEN')
      expect(await codeOf(member('rae', 'owner', reader))).toBe('ERR_FORBIDDEN')
      const zed = await house.newcomer('zed', 'zedco')
      expect(await codeOf(list(zed.token))).toBe('ERR_FORBIDDEN')
      expect((await invite('reader', zed.token)).body.error.code).toBe('ERR_FORBIDDEN')
    })

    it('leave, or are removed, and every token of the membership is dead; the last owner stays', async () => {
      const token = await joined('liz', 'publisher')
      const remove = (user: string, by: string) =>
        house.call('DELETE', `/v1/orgs/acme/members/${user}`, { token: by })
      expect((await remove('liz', token)).status).toBe(200)
      expect((await house.call('GET', '/v1/whoami', { token })).status).toBe(401)
      const { jti } = JSON.parse(atob(token.split('.')[1]!.replace(/-/g, '+').replace(/_/g, '/')))
      expect((await house.call('GET', '/v1/revocations')).body.tokens).toContain(jti)
      expect(await codeOf(remove('liz', house.token))).toBe('ERR_NAME_UNKNOWN')
      expect(await codeOf(remove('ada', house.token))).toBe('ERR_FORBIDDEN')

      // Two owners who remove each other at once: one of them stays.
      const other = await joined('oda', 'owner')
      const both = await Promise.all([remove('oda', house.token), remove('ada', other)])
      expect(both.map(({ status }) => status).filter((status) => status === 200)).toHaveLength(1)
    })
  })
}

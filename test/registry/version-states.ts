import type { Digest } from '@graft/sdk/format/digest.ts'
import { beforeAll, describe, expect, it } from 'vitest'
import {
  type Adapter,
  type AdapterOptions,
  adapter,
  furnish,
  type House,
  publish,
  publishRequest,
  tinyBase,
} from './fixtures.ts'

/** A registry that nobody has set up yet, over HTTP. */
type App = Parameters<typeof furnish>[0]

/** What may be said of a version once it is out, and what choosing makes of it; `open` gives an empty registry. */
export const versionStates = (platform: string, open: () => Promise<App>) =>
  describe(`versions on ${platform}`, () => {
    let house: House
    let eve: Awaited<ReturnType<House['newcomer']>>
    const adapters = new Map<string, Adapter>()

    const add = async (
      name: string,
      version: string,
      rest: Partial<AdapterOptions> = {},
      request: object = {},
    ): Promise<Adapter> => {
      const { base, call, token, key } = house
      const what = await adapter({ base, name, version, seed: adapters.size * 10 + 1, ...rest })
      const json = await publishRequest(what, key, request)
      expect((await publish(call, token, what, json)).body).toMatchObject({ state: 'published' })
      adapters.set(`${name}@${version}`, what)
      return what
    }
    const resolve = (ref: string, rest = '', token?: string) =>
      house.call('GET', `/v1/resolve?ref=${encodeURIComponent(ref)}${rest}`, token ? { token } : {})
    const say = (
      method: 'PUT' | 'DELETE',
      ref: string,
      what: string,
      json?: object,
      token: string | null = house.token,
    ) => {
      const at = ref.lastIndexOf('@')
      const path = `/v1/packages/${ref.slice(0, at)}/versions/${encodeURIComponent(ref.slice(at + 1))}/${what}`
      return house.call(method, path, { ...(token ? { token } : {}), ...(json ? { json } : {}) })
    }
    const at = expect.stringMatching(/^\d{4}-\d\d-\d\dT/)

    beforeAll(async () => {
      house = await furnish(await open())
      eve = await house.newcomer('eve', 'evil')
    })

    it('a yanked version is passed over by ranges with its reason, and still served by its digest with it', async () => {
      const name = '@acme/yank'
      for (const version of ['1.0.0', '1.1.0', '1.2.0']) await add(name, version)
      const before = await resolve(`${name}@^1`)
      expect(before.body.version).toBe('1.2.0')
      const yanked = await say('PUT', `${name}@1.2.0`, 'yank', { reason: 'answers in verse' })
      expect(yanked.body).toEqual({
        name,
        version: '1.2.0',
        digest: adapters.get(`${name}@1.2.0`)!.digest,
        state: { yanked: { reason: 'answers in verse', at } },
        tags: { latest: '1.1.0' },
      })
      const since = yanked.body.state.yanked.at
      const after = await resolve(`${name}@^1`)
      expect(after.body.version).toBe('1.1.0')
      expect(after.body.skipped).toEqual([
        { version: '1.2.0', reason: `was yanked at ${since}: answers in verse` },
      ])
      const etag = { 'if-none-match': before.headers.get('etag')! }
      const again = await house.call('GET', `/v1/resolve?ref=${name}@^1`, { headers: etag })
      expect(again.status).toBe(200)
      expect((await resolve(name)).body.version).toBe('1.1.0')
      const exact = await resolve(`${name}@1.2.0`)
      expect(exact.body.error.code).toBe('ERR_RANGE_UNSATISFIED')
      expect(exact.body.error.message).toContain('answers in verse')
      const { digest } = adapters.get(`${name}@1.2.0`)!
      const locked = await resolve(`${name}@${digest}`)
      expect(locked.body).toMatchObject({ version: '1.2.0', state: yanked.body.state })
      expect(locked.headers.get('cache-control')).toBe('public, max-age=30')
      const record = await house.call('GET', `/v1/manifests/${digest}`)
      expect(record.body.state).toEqual(yanked.body.state)
      const listed = await house.call('GET', `/v1/packages/${name}`)
      expect(listed.body.versions.map((v: { state?: object }) => v.state)).toEqual([
        yanked.body.state,
        undefined,
        undefined,
      ])
      const undone = await say('DELETE', `${name}@1.2.0`, 'yank')
      expect(undone.body).toMatchObject({ state: {}, tags: { latest: '1.1.0' } })
      expect((await resolve(`${name}@^1`)).body).toMatchObject({ version: '1.2.0', skipped: [] })
    })

    it('a tag other than latest that names a yanked version is refused with the reason until it is moved', async () => {
      const name = '@acme/tagged'
      await add(name, '1.0.0')
      await add(name, '2.0.0-rc.1', {}, { tags: ['next'] })
      await say('PUT', `${name}@2.0.0-rc.1`, 'yank', { reason: 'too early' })
      const refused = await resolve(`${name}@next`)
      expect(refused.body.error).toMatchObject({ code: 'ERR_VERSION_UNKNOWN' })
      expect(refused.body.error.message).toContain('too early')
      const move = (version: string) =>
        house.call('PUT', `/v1/packages/${name}/tags/next`, {
          token: house.token,
          json: { version },
        })
      expect((await move('2.0.0-rc.1')).body.error.message).toContain('too early')
      expect((await move('1.0.0')).status).toBe(200)
      expect((await resolve(`${name}@next`)).body.version).toBe('1.0.0')
      await say('PUT', `${name}@1.0.0`, 'yank', { reason: 'the last one' })
      const none = await resolve(name)
      expect([none.status, none.body.error.code]).toEqual([404, 'ERR_VERSION_UNKNOWN'])
    })

    it('a deprecated version is chosen only where nothing else fits, and then says so', async () => {
      const name = '@acme/old'
      for (const version of ['1.0.0', '1.1.0']) await add(name, version)
      const message = 'use @acme/new'
      const said = await say('PUT', `${name}@1.1.0`, 'deprecation', { message })
      expect(said.body.state).toEqual({ deprecated: { message, at } })
      const range = await resolve(`${name}@^1`)
      expect(range.body).toMatchObject({
        version: '1.0.0',
        skipped: [{ version: '1.1.0', reason: `is deprecated: ${message}` }],
      })
      const only = await resolve(`${name}@^1.1`)
      expect(only.body).toMatchObject({ version: '1.1.0', state: said.body.state, skipped: [] })
      expect((await resolve(name)).body).toMatchObject({ version: '1.1.0' })
      expect((await say('DELETE', `${name}@1.1.0`, 'deprecation')).body.state).toEqual({})
      expect((await resolve(`${name}@^1`)).body.version).toBe('1.1.0')
    })

    it('a tombstone takes the bytes for good, keeps digest and reason, and spares what other versions share', async () => {
      const name = '@acme/leak'
      const kept = await add(name, '1.0.0', { seed: 7 })
      const gone = await add(name, '1.1.0', { seed: 7, withGoldens: true })
      const [weights, logits] = [...gone.files.keys()] as [Digest, Digest]
      expect([...kept.files.keys()]).toEqual([weights])
      const { token: publisher } = await house.tokenWith(['publish', 'read'])
      const reason = 'holds a customer key'
      const tries = [
        await say('PUT', `${name}@1.1.0`, 'tombstone', { reason }, publisher),
        await say('PUT', `${name}@1.1.0`, 'tombstone', { reason }, eve.token),
      ]
      for (const refused of tries) expect(refused.body.error.code).toBe('ERR_FORBIDDEN')
      const done = await say('PUT', `${name}@1.1.0`, 'tombstone', { reason })
      expect(done.body).toMatchObject({
        digest: gone.digest,
        state: { tombstoned: { reason, at } },
        tags: { latest: '1.0.0' },
      })
      for (const path of [
        `/v1/resolve?ref=${name}@${gone.digest}`,
        `/v1/manifests/${gone.digest}`,
      ]) {
        const answer = await house.call('GET', path)
        expect([answer.status, answer.body.error.code]).toEqual([404, 'ERR_VERSION_UNKNOWN'])
        expect(answer.body.error.message).toContain(reason)
        expect(answer.headers.get('cache-control')).toBe('no-store')
      }
      const capability = { token: house.token, json: { manifest: gone.digest } }
      const refused = await house.call('POST', '/v1/capabilities', capability)
      expect(refused.body.error.message).toContain(reason)
      for (const blob of [gone.digest, logits])
        expect((await house.call('GET', `/v1/blobs/${blob}`)).status, blob).toBe(404)
      expect((await house.call('GET', `/v1/blobs/${weights}`)).status).toBe(200)
      expect((await resolve(`${name}@^1`)).body).toMatchObject({
        version: '1.0.0',
        skipped: [{ version: '1.1.0', reason: expect.stringContaining(reason) }],
      })
      const again = await publish(
        house.call,
        house.token,
        gone,
        await publishRequest(gone, house.key),
      )
      expect(again.body.error.code).toBe('ERR_VERSION_EXISTS')
      expect(again.body.error.message).toContain(reason)
      for (const [method, what, json] of [
        ['PUT', 'yank', { reason: 'x' }],
        ['DELETE', 'yank', undefined],
        ['DELETE', 'deprecation', undefined],
      ] as const)
        expect((await say(method, `${name}@1.1.0`, what, json)).body.error.code).toBe(
          'ERR_VERSION_UNKNOWN',
        )
      const twice = await say('PUT', `${name}@1.1.0`, 'tombstone', { reason: 'another' })
      expect(twice.body.state).toEqual(done.body.state)
    })

    it('only publishers of the organisation change a version, and only in one line of text', async () => {
      const name = '@acme/roles'
      await add(name, '1.0.0')
      const { token: reader } = await house.tokenWith(['read'])
      const yank = (token: string | null, json: object = { reason: 'no' }) =>
        say('PUT', `${name}@1.0.0`, 'yank', json, token)
      expect((await yank(null)).body.error.code).toBe('ERR_UNAUTHENTICATED')
      expect((await yank(reader)).body.error.code).toBe('ERR_FORBIDDEN')
      expect((await yank(eve.token)).body.error.code).toBe('ERR_FORBIDDEN')
      for (const reason of ['', '   ', 'a\nb', 'a\u001b[2Jb', 'x'.repeat(501), 7])
        expect((await yank(house.token, { reason })).body.error.code).toBe('ERR_REQUEST_INVALID')
      expect((await resolve(`${name}@^1`)).body.version).toBe('1.0.0')
      const unknown = await say('PUT', `${name}@9.9.9`, 'yank', { reason: 'no' })
      expect(unknown.body.error.code).toBe('ERR_VERSION_UNKNOWN')
      const strange = await say('PUT', `${name}@^1`, 'yank', { reason: 'no' })
      expect(strange.body.error.code).toBe('ERR_REFERENCE_INVALID')
    })

    it('every demand passes over what it rules out, and says why', async () => {
      const name = '@acme/many'
      const cousin = await tinyBase('cousin', 900)
      await house.call('POST', '/v1/bases', { token: house.token, json: cousin })
      const { structure } = house.base.identity
      expect(cousin.identity.structure).toBe(structure)
      await add(name, '1.0.0', { rank: 1, fields: { license: 'MIT OR GPL-3.0-only' } })
      await add(name, '1.1.0', { rank: 4 })
      await add(name, '1.2.0', { fields: { license: 'LicenseRef-mine' } })
      await add(name, '1.3.0', { base: cousin })
      await add(name, '1.4.0', { kind: 'scale', base: cousin, fields: { license: 'see the file' } })
      const chosen = async (rest: string) => {
        const { body } = await resolve(`${name}@^1`, rest)
        return [body.version, body.skipped?.at(-1)?.reason ?? body.error?.code, body.baseMatch]
      }
      expect(await chosen(`&base=${house.base.digest}`)).toEqual([
        '1.2.0',
        `is for base "cousin" (${cousin.digest}), not ${house.base.digest}`,
        undefined,
      ])
      expect(await chosen(`&structure=${structure}&operations=low_rank`)).toEqual([
        '1.3.0',
        'needs scale, which the runtime does not support',
        'structure',
      ])
      const other = `sha256:${'0'.repeat(64)}`
      const none = await resolve(`${name}@1.0.0`, `&structure=${other}`)
      expect(none.body.error.message).toContain(`whose structure is ${structure}, not ${other}`)
      expect(await chosen('&operations=low_rank&maxRank=1')).toEqual([
        '1.0.0',
        'has rank 4, and the runtime takes at most 1',
        undefined,
      ])
      expect(await chosen('&licences=mit,BSD-3-Clause')).toEqual([
        '1.0.0',
        'is under Apache-2.0, and only mit, BSD-3-Clause may be used',
        undefined,
      ])
      const licence = await resolve(`${name}@1.4.0`, '&licences=MIT')
      expect(licence.body.error.message).toContain(
        'states the licence "see the file", which is no SPDX expression',
      )
      const young = await resolve(`${name}@1.4.0`, '&minReleaseAge=3600')
      expect(young.body.error.message).toMatch(
        /1\.4\.0 was published at \S+ and is 3600 s old only at \S+/,
      )
      expect((await resolve(`${name}@1.4.0`, '&minReleaseAge=0')).body.version).toBe('1.4.0')
      for (const rest of [
        'maxRank=-1',
        'maxRank=1e3',
        'minReleaseAge=x',
        'licences=',
        'licences=A OR B',
        `base=${other}&structure=${other}`,
        'rank=3',
      ])
        expect((await resolve(`${name}@^1`, `&${rest}`)).status, rest).toBe(400)
    })

    it("an organisation's private names, versions and reasons are nobody else's to learn", async () => {
      const name = '@acme/hidden'
      const { digest } = await add(name, '1.0.0', {}, { visibility: 'private' })
      await say('PUT', `${name}@1.0.0`, 'yank', { reason: 'a secret reason' })
      const absent = '@acme/absent'
      const blank = (text: string) => text.replaceAll(/hidden|absent/g, 'NAME')
      for (const token of [undefined, eve.token]) {
        const pairs = [
          [await resolve(`${name}@^1`, '', token), await resolve(`${absent}@^1`, '', token)],
          [
            await resolve(`${name}@${digest}`, '', token),
            await resolve(`${absent}@${digest}`, '', token),
          ],
        ] as const
        for (const [hidden, missing] of pairs) {
          expect(hidden.status).toBe(404)
          expect(blank(hidden.body.error.message)).toBe(blank(missing.body.error.message))
        }
      }
      for (const what of ['yank', 'tombstone']) {
        const theirs = await say('PUT', `${name}@1.0.0`, what, { reason: 'x' }, eve.token)
        const missing = await say('PUT', `${absent}@1.0.0`, what, { reason: 'x' }, eve.token)
        expect(theirs.status).toBe(403)
        expect(blank(theirs.body.error.message)).toBe(blank(missing.body.error.message))
      }
      const own = await resolve(`${name}@${digest}`, '', house.token)
      expect(own.body.state.yanked.reason).toBe('a secret reason')
    })
  })

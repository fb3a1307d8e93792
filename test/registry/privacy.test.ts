import type { PublishAnswer } from '@graft/sdk/protocol/registry-api.ts'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Adapter, adapter, openHouse, publish, publishRequest } from './fixtures.ts'

let house: Awaited<ReturnType<typeof openHouse>>
let stranger: Awaited<ReturnType<typeof house.newcomer>>
let secret: Adapter
let blob: string

beforeAll(async () => {
  house = await openHouse()
  stranger = await house.newcomer('eve', 'evil')
  secret = await adapter({ base: house.base, name: '@acme/secret', withGoldens: true })
  blob = secret.manifest.files[0]!.sha256
  const request = await publishRequest(secret, house.key, { visibility: 'private' })
  expect((await publish(house.call, house.token, secret, request)).body.state).toBe('published')
})
afterAll(() => house.close())

describe('a private package', () => {
  it('answers strangers and nobody exactly like one that does not exist', async () => {
    const { call } = house
    const absent = `sha256:${'0'.repeat(64)}`
    const pairs = [
      ['/v1/packages/@acme/secret', '/v1/packages/@acme/absent'],
      ['/v1/resolve?ref=@acme/secret@^1', '/v1/resolve?ref=@acme/absent@^1'],
      [`/v1/resolve?ref=@acme/secret@${secret.digest}`, `/v1/resolve?ref=@acme/absent@${absent}`],
      [`/v1/manifests/${secret.digest}`, `/v1/manifests/${absent}`],
      [`/v1/blobs/${blob}`, `/v1/blobs/${absent}`],
      [`/v1/blobs/${secret.goldens!.logits.sha256}`, `/v1/blobs/${absent}`],
      [`/v1/blobs/${secret.digest}`, `/v1/blobs/${absent}`],
    ]
    for (const token of [undefined, stranger.token])
      for (const [hidden, missing] of pairs) {
        const options = token ? { token } : {}
        const [a, b] = [await call('GET', hidden!, options), await call('GET', missing!, options)]
        expect(a.status, hidden).toBe(404)
        expect(a.status).toBe(b.status)
        const blank = (text: string) =>
          text.replaceAll(/@acme\/\w+/g, 'NAME').replaceAll(/sha256:\w+/g, 'DIGEST')
        expect(blank(a.body.error.message)).toBe(blank(b.body.error.message))
        expect(a.body.error.code).toBe(b.body.error.code)
        const names = (answer: typeof a) => [...answer.headers.keys()].sort()
        expect(names(a)).toEqual(names(b))
      }
    expect((await call('GET', '/v1/packages', { token: stranger.token })).body.packages).toEqual([])
  })

  it('is read by its own organisation, and kept out of shared caches', async () => {
    const { call } = house
    const { token } = await house.tokenWith(['infer'])
    const resolved = await call('GET', '/v1/resolve?ref=@acme/secret', { token })
    expect(resolved.body).toMatchObject({ visibility: 'private', digest: secret.digest })
    expect(resolved.headers.get('cache-control')).toBe('private, max-age=30')
    const pulled = await call('GET', `/v1/blobs/${blob}`, { token })
    expect(pulled.body).toEqual(secret.files.get(secret.manifest.files[0]!.sha256))
    expect(pulled.headers.get('cache-control')).toBe('private, max-age=31536000, immutable')
    expect(pulled.headers.get('vary')).toBe('authorization')
    const found = await call('GET', '/v1/packages?q=secret', { token })
    expect(found.body.packages).toMatchObject([{ name: '@acme/secret', visibility: 'private' }])
  })

  it('is not given away by what a stranger is told to upload, nor taken over by naming its digest', async () => {
    const { call } = house
    const copy = await adapter({ base: house.base, name: '@evil/copy' })
    expect(copy.manifest.files[0]!.sha256).toBe(blob)
    const json = await publishRequest(copy, stranger.key)
    const started = await call('POST', '/v1/publish', { token: stranger.token, json })
    const answer: PublishAnswer = started.body
    expect(answer.missing.map((m) => m.digest)).toEqual([blob])
    const complete = `/v1/publish/${answer.id}/complete`
    const early = await call('POST', complete, { token: stranger.token })
    expect(early.body.error.code).toBe('ERR_PUBLISH_STATE')
    expect((await call('GET', `/v1/blobs/${blob}`, { token: stranger.token })).status).toBe(404)
    // Its owner is asked for nothing.
    const own = await adapter({ base: house.base, name: '@acme/own-copy' })
    const request = await publishRequest(own, house.key)
    const mine = await call('POST', '/v1/publish', { token: house.token, json: request })
    expect(mine.body.missing).toEqual([])
    // And an upload is its organisation's business alone.
    for (const [method, path] of [
      ['GET', `/v1/publish/${mine.body.id}`],
      ['POST', `/v1/publish/${mine.body.id}/complete`],
    ] as const) {
      const peek = await call(method, path, { token: stranger.token })
      expect(peek.body.error?.code, path).toMatch(/ERR_NAME_UNKNOWN/)
    }
  })
})

describe('a capability', () => {
  it('opens one manifest and its blobs for a while, and nothing else', async () => {
    let now = new Date('2026-03-01T00:00:00Z')
    const timed = await openHouse({ clock: () => now })
    const { call, token, key, base } = timed
    const [one, two] = [
      await adapter({ base, name: '@acme/one', seed: 1 }),
      await adapter({ base, name: '@acme/two', seed: 2 }),
    ]
    for (const what of [one, two])
      await publish(call, token, what, await publishRequest(what, key, { visibility: 'private' }))
    const granted = await call('POST', '/v1/capabilities', {
      token,
      json: { manifest: one.digest },
    })
    expect(granted.body.expiresAt).toBe('2026-03-01T00:15:00.000Z')
    const capability = granted.body.token as string
    const status = async (path: string) => (await call('GET', path, { token: capability })).status
    expect(await status(`/v1/manifests/${one.digest}`)).toBe(200)
    expect(await status(`/v1/blobs/${one.manifest.files[0]!.sha256}`)).toBe(200)
    expect(await status(`/v1/manifests/${two.digest}`)).toBe(404)
    expect(await status(`/v1/blobs/${two.manifest.files[0]!.sha256}`)).toBe(404)
    for (const path of ['/v1/whoami', '/v1/resolve?ref=@acme/one', '/v1/packages'])
      expect(await status(path), path).toBe(401)
    const eve = await timed.newcomer('eve', 'evil')
    const json = { manifest: one.digest }
    const asked = await call('POST', '/v1/capabilities', { token: eve.token, json })
    expect(asked.body.error.code).toBe('ERR_VERSION_UNKNOWN')
    now = new Date('2026-03-01T00:15:01Z')
    const late = await call('GET', `/v1/manifests/${one.digest}`, { token: capability })
    expect(late.body.error.code).toBe('ERR_TOKEN_EXPIRED')
    await timed.close()
  })
})

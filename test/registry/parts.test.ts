import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { DEFAULT_LIMITS } from '@graft/registry/deps.ts'
import { openFileBlobs } from '@graft/registry/node/file-blobs.ts'
import type { BlobStore } from '@graft/registry/stores/blob-store.ts'
import type { MissingParts, PublishAnswer } from '@graft/sdk/protocol/registry-api.ts'
import { describe, expect, it } from 'vitest'
import {
  type Adapter,
  adapter,
  openHouse,
  publish,
  publishRequest,
  temporaryFolder,
} from './fixtures.ts'

const PART_BYTES = 100
const limits = { ...DEFAULT_LIMITS, part: PART_BYTES }

type House = Awaited<ReturnType<typeof openHouse>>

async function start(
  house: House,
  options: { name: string; seed?: number; withGoldens?: boolean },
) {
  const { call, token, key, base } = house
  const what = await adapter({ base, ...options })
  const json = await publishRequest(what, key)
  const { id, missing } = (await call('POST', '/v1/publish', { token, json })).body as PublishAnswer
  return { what, json, id, missing }
}

const partsOf = async ({ call, token }: House, url: string): Promise<MissingParts> =>
  (await call('GET', url, { token })).body

const putPart = (
  { call, token }: House,
  { files }: Adapter,
  digest: string,
  part: MissingParts['missing'][number],
) => {
  const bytes = files.get(digest as never)!
  const begin = (part.number - 1) * PART_BYTES
  return call('PUT', part.url, { token, body: bytes.slice(begin, begin + part.size) })
}

const under = (house: House, folder: string): string[] =>
  readdirSync(join(house.stateDir, 'blobs', folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => entry.name)

describe('a blob in parts', () => {
  it('says which parts are missing until all are there, and only then completes', async () => {
    const house = await openHouse({ limits })
    const { call, token } = house
    const { what, id, missing } = await start(house, { name: '@acme/parts' })
    const { digest, size, parts } = missing[0]!
    const asked = await partsOf(house, parts!)
    const count = Math.ceil(size / PART_BYTES)
    expect(asked).toMatchObject({ partSize: PART_BYTES, count })
    expect(asked.missing.map(({ number }) => number)).toEqual(
      Array.from({ length: count }, (_, i) => i + 1),
    )
    expect(asked.missing.at(-1)!.size).toBe(size - (count - 1) * PART_BYTES)
    const complete = () => call('POST', `/v1/publish/${id}/complete`, { token })
    for (const part of [...asked.missing].reverse()) {
      expect((await complete()).body.error.code).toBe('ERR_PUBLISH_STATE')
      expect((await putPart(house, what, digest, part)).status).toBe(200)
    }
    expect((await partsOf(house, parts!)).missing).toEqual([])
    expect((await complete()).body).toMatchObject({ state: 'published', digest: what.digest })
    expect((await call('GET', `/v1/blobs/${digest}`)).body).toEqual(what.files.get(digest))
    expect(under(house, 'staging')).toEqual([])
    await house.close()
  })

  it('refuses a part of another size or number, of a blob that has none, and of somebody else', async () => {
    const house = await openHouse({ limits })
    const { call, token } = house
    const { id, missing } = await start(house, { name: '@acme/strict' })
    const { parts } = missing[0]!
    const put = (number: string, size: number, as = token) =>
      call('PUT', `${parts}/${number}`, { token: as, body: new Uint8Array(size) })
    expect((await put('1', PART_BYTES - 1)).body.error.code).toBe('ERR_DIGEST_MISMATCH')
    expect((await put('1', PART_BYTES + 1)).body.error.code).toBe('ERR_DIGEST_MISMATCH')
    for (const number of ['0', '1.5', '999', 'x'])
      expect((await put(number, PART_BYTES)).body.error.code).toBe('ERR_REQUEST_INVALID')
    const stranger = await house.newcomer('eve', 'evil')
    expect((await put('1', PART_BYTES, stranger.token)).body.error.code).toBe('ERR_NAME_UNKNOWN')
    const seen = await call('GET', parts!, { token: stranger.token })
    expect(seen.body.error.code).toBe('ERR_NAME_UNKNOWN')
    expect((await call('GET', parts!)).body.error.code).toBe('ERR_UNAUTHENTICATED')
    const none = await call('GET', `/v1/publish/${id}/blobs/sha256:${'0'.repeat(64)}/parts`, {
      token,
    })
    expect(none.body.error.code).toBe('ERR_BLOB_UNKNOWN')
    const whole = await openHouse()
    const small = await start(whole, { name: '@acme/small' })
    expect(small.missing[0]!.parts).toBeUndefined()
    const url = `/v1/publish/${small.id}/blobs/${small.missing[0]!.digest}/parts`
    const refused = await whole.call('GET', url, { token: whole.token })
    expect(refused.body.error.code).toBe('ERR_REQUEST_INVALID')
    await whole.close()
    await house.close()
  })

  it('that is not what its digest says is refused, and takes the right bytes afterwards', async () => {
    const house = await openHouse({ limits })
    const { call, token } = house
    const { what, id, missing } = await start(house, { name: '@acme/wrong' })
    const { digest, parts } = missing[0]!
    for (const part of (await partsOf(house, parts!)).missing)
      await call('PUT', part.url, { token, body: new Uint8Array(part.size) })
    const complete = () => call('POST', `/v1/publish/${id}/complete`, { token })
    expect((await complete()).body.error.code).toBe('ERR_DIGEST_MISMATCH')
    const again = await partsOf(house, parts!)
    expect(again.missing).toHaveLength(again.count)
    for (const part of again.missing) await putPart(house, what, digest, part)
    expect((await complete()).body).toMatchObject({ state: 'published' })
    await house.close()
  })
})

describe('an upload that is given up', () => {
  it('is gone at once, with all it staged, and can be started anew', async () => {
    const house = await openHouse({ limits })
    const { call, token, key } = house
    const { what, json, id, missing } = await start(house, { name: '@acme/gone' })
    const asked = await partsOf(house, missing[0]!.parts!)
    await putPart(house, what, missing[0]!.digest, asked.missing[0]!)
    expect(under(house, 'staging').length).toBeGreaterThan(0)
    const stranger = await house.newcomer('eve', 'evil')
    const abort = (as: string) => call('DELETE', `/v1/publish/${id}`, { token: as })
    expect((await abort(stranger.token)).body.error.code).toBe('ERR_NAME_UNKNOWN')
    expect((await abort(token)).status).toBe(200)
    expect((await abort(token)).status).toBe(200)
    expect(under(house, 'staging')).toEqual([])
    const late = await putPart(house, what, missing[0]!.digest, asked.missing[1]!)
    expect(late.body.error.code).toBe('ERR_PUBLISH_STATE')
    const complete = await call('POST', `/v1/publish/${id}/complete`, { token })
    expect(complete.body.error.code).toBe('ERR_CANCELLED')
    const anew = await publish(call, token, what, json)
    expect(anew.body).toMatchObject({ state: 'published' })
    const out = await call('DELETE', `/v1/publish/${anew.body.id}`, { token })
    expect(out.body.error.code).toBe('ERR_PUBLISH_STATE')
    expect((await call('GET', `/v1/manifests/${what.digest}`)).status).toBe(200)
    expect(key.kid).toBeTruthy()
    await house.close()
  })

  it('never becomes a version, also when it is given up while it is being completed', async () => {
    const folder = temporaryFolder()
    let between: (() => Promise<unknown>) | null = null
    let promotions = 0
    const files = await openFileBlobs(join(folder.path, 'blobs'))
    const blobs: BlobStore = {
      ...files,
      async promote(upload, digest) {
        await files.promote(upload, digest)
        // Manifest and weights: after the last of them only the commit is left.
        if (between && ++promotions === 2) await between()
      },
    }
    const house = await openHouse({ limits, blobs })
    const { call, token } = house
    const { what, id, missing } = await start(house, { name: '@acme/raced' })
    for (const { digest, parts } of missing)
      for (const part of (await partsOf(house, parts!)).missing)
        await putPart(house, what, digest, part)
    between = () => call('DELETE', `/v1/publish/${id}`, { token })
    const complete = await call('POST', `/v1/publish/${id}/complete`, { token })
    expect(complete.body.error.code).toBe('ERR_CANCELLED')
    expect((await call('GET', '/v1/packages/@acme/raced')).status).toBe(404)
    expect((await call('GET', `/v1/manifests/${what.digest}`)).status).toBe(404)
    await house.close()
    folder.clean()
  })
})

describe('the sweeper', () => {
  it('removes what an upload promoted that never became a version, and keeps what others stand on', async () => {
    let now = Date.parse('2026-01-01T00:00:00Z')
    let breaks = false
    const folder = temporaryFolder()
    const files = await openFileBlobs(join(folder.path, 'blobs'))
    const blobs: BlobStore = {
      ...files,
      async promote(upload, digest) {
        await files.promote(upload, digest)
        if (breaks && (await files.listStaging()).length > 0) promoted.push(digest)
      },
    }
    const promoted: string[] = []
    const house = await openHouse({ limits, blobs, clock: () => new Date(now) })
    const { call, token, key, base } = house
    const kept = await adapter({ base, name: '@acme/kept', seed: 1 })
    await publish(call, token, kept, await publishRequest(kept, key))
    // The same weights under a version that somebody else takes first: promoted, and refused at the commit.
    const first = await start(house, { name: '@acme/taken', seed: 50 })
    const second = await start(house, { name: '@acme/taken', seed: 60 })
    const send = async ({ what, id, missing }: typeof first) => {
      for (const { digest, parts } of missing)
        for (const part of (await partsOf(house, parts!)).missing)
          await putPart(house, what, digest, part)
      return call('POST', `/v1/publish/${id}/complete`, { token })
    }
    expect((await send(first)).body).toMatchObject({ state: 'published' })
    breaks = true
    expect((await send(second)).body.error.code).toBe('ERR_VERSION_EXISTS')
    const [orphan] = [...second.what.files.keys()]
    expect(promoted).toContain(orphan)
    expect(await files.head(orphan!)).not.toBeNull()
    expect(await house.registry.sweep()).toBe(0)
    now += 2 * 86_400_000
    expect(await house.registry.sweep()).toBe(1)
    expect(await files.head(orphan!)).toBeNull()
    expect(await files.head(second.what.digest)).toBeNull()
    for (const { files: all } of [kept, first.what])
      for (const digest of all.keys()) expect(await files.head(digest)).not.toBeNull()
    await house.close()
    folder.clean()
  })

  it('lets a publish build on a blob again only when its removal is over', async () => {
    let now = Date.now()
    const folder = temporaryFolder()
    const files = await openFileBlobs(join(folder.path, 'blobs'))
    let deleting: (() => Promise<unknown>) | null = null
    const blobs: BlobStore = {
      ...files,
      async delete(digest) {
        await deleting?.()
        await files.delete(digest)
      },
    }
    const house = await openHouse({ limits, blobs, clock: () => new Date(now) })
    const { call, token, key, base } = house
    const first = await adapter({ base, name: '@acme/first', seed: 70 })
    const taken = await start(house, { name: '@acme/first', seed: 71 })
    await publish(call, token, first, await publishRequest(first, key))
    for (const { digest, parts } of taken.missing)
      for (const part of (await partsOf(house, parts!)).missing)
        await putPart(house, taken.what, digest, part)
    await call('POST', `/v1/publish/${taken.id}/complete`, { token })
    now += 2 * 86_400_000
    // The same weights under a free version, published in the very moment in which the sweeper deletes them.
    const renamed = await adapter({ base, name: '@acme/renamed', seed: 71 })
    const request = await publishRequest(renamed, key)
    const during: { code?: string; state?: string }[] = []
    deleting = async () => {
      deleting = null
      const { body } = await publish(call, token, renamed, request)
      during.push({ code: body.error?.code, state: body.state })
    }
    expect(await house.registry.sweep()).toBe(1)
    const [weights] = [...renamed.files.keys()]
    if (during[0]?.state === undefined) expect(during).toEqual([{ code: 'ERR_OVERLOADED' }])
    expect((await publish(call, token, renamed, request)).body.state).toBe('published')
    expect((await call('GET', `/v1/blobs/${weights}`)).body).toEqual(renamed.files.get(weights!))
    await house.close()
    folder.clean()
  })

  it('clears a part that came after its upload had ended', async () => {
    const house = await openHouse({ limits })
    const { id, missing } = await start(house, { name: '@acme/late' })
    await house.call('DELETE', `/v1/publish/${id}`, { token: house.token })
    // As a client with an address that is still good does, past the registry.
    const store = await openFileBlobs(join(house.stateDir, 'blobs'))
    await store.putPart(id, missing[0]!.digest, 1, 3, new Response('abc').body!)
    expect(under(house, 'staging')).toEqual(['1'])
    expect(await house.registry.sweep()).toBe(0)
    expect(under(house, 'staging')).toEqual([])
    await house.close()
  })
})

import type { Caller } from '@graft/edge/auth/authenticate.ts'
import { createRegistryClient } from '@graft/edge/upstream/registry-client.ts'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { type Adapter, adapter, openHouse, publish, publishRequest } from '../registry/fixtures.ts'

/** Milliseconds within which what was said of a version must be seen here. */
const PROMISED_MS = 10_000

let house: Awaited<ReturnType<typeof openHouse>>
let caller: Caller
const shift = { ms: 0 }
const clock = () => new Date(Date.now() + shift.ms)
const adapters: Adapter[] = []

beforeAll(async () => {
  house = await openHouse({ clock })
  caller = { tenant: 'acme', token: house.token } as Caller
  for (const version of ['1.0.0', '1.1.0', '1.2.0']) {
    const what = await adapter({ base: house.base, version, seed: adapters.length * 10 })
    const request = await publishRequest(what, house.key)
    await publish(house.call, house.token, what, request)
    adapters.push(what)
  }
})
afterAll(() => house.close())

const openEdge = () =>
  createRegistryClient({
    registryUrl: 'https://registry.test',
    clock,
    fetch: async (input, init) =>
      house.registry.app.request(String(input).slice('https://registry.test'.length), init),
  })
const say = (version: string, what: string) =>
  house.call('PUT', `/v1/packages/@acme/sql/versions/${version}/${what}`, {
    token: house.token,
    json: { reason: 'because' },
  })

it('a yank is seen by the edge within 10 seconds, for ranges and for tags; the digest is served on', async () => {
  const edge = openEdge()
  const version = async (ref: string) => (await edge.resolve(caller, ref, null)).version
  const [range, tag, digest] = [
    '@acme/sql@^1',
    '@acme/sql@latest',
    `@acme/sql@${adapters[2]!.digest}`,
  ]
  for (const ref of [range, tag, digest]) expect(await version(ref!)).toBe('1.2.0')
  expect((await say('1.2.0', 'yank')).status).toBe(200)
  // Believed for a while: not every call asks the registry.
  expect(await version(range!)).toBe('1.2.0')
  shift.ms += PROMISED_MS
  expect(await version(range!)).toBe('1.1.0')
  expect(await version(tag!)).toBe('1.1.0')
  expect((await edge.resolve(caller, digest!, null)).state?.yanked?.reason).toBe('because')
})

it('a tombstone is seen within 10 seconds even by who names the digest', async () => {
  const edge = openEdge()
  const digest = `@acme/sql@${adapters[1]!.digest}`
  expect((await edge.resolve(caller, digest, null)).version).toBe('1.1.0')
  expect((await say('1.1.0', 'tombstone')).status).toBe(200)
  shift.ms += PROMISED_MS
  await expect(edge.resolve(caller, digest, null)).rejects.toMatchObject({
    code: 'ERR_VERSION_UNKNOWN',
    message: expect.stringContaining('because'),
  })
  expect((await edge.resolve(caller, '@acme/sql@^1', null)).version).toBe('1.0.0')
})

import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { sortKey } from '@graft/registry/resolve/version-order.ts'
import type { Digest } from '@graft/sdk/format/digest.ts'
import { isRange } from '@graft/sdk/format/semver.ts'
import type { BaseRecord } from '@graft/sdk/protocol/registry-api.ts'
import { SemVer, valid } from 'semver'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { adapter, openHouse, publish, publishRequest, tinyBase } from './fixtures.ts'
import { openShelf } from './shelf.ts'

describe('resolve', () => {
  let house: Awaited<ReturnType<typeof openHouse>>
  let other: BaseRecord
  const digests = new Map<string, Digest>()

  beforeAll(async () => {
    house = await openHouse()
    const { call, token, key, base } = house
    other = await tinyBase('other-base', 70)
    await call('POST', '/v1/bases', { token, json: other })
    const add = async (version: string, rest: object, tags: string[]) => {
      const what = await adapter({ base, version, seed: digests.size * 10, ...rest })
      const json = await publishRequest(what, key, { tags })
      expect((await publish(call, token, what, json)).body.state).toBe('published')
      digests.set(version, what.digest)
    }
    await add('1.0.0', {}, ['latest'])
    await add('1.1.0', { kind: 'scale' }, ['latest'])
    await add('1.2.0', { base: other }, ['latest'])
    await add('1.3.0-rc.1', {}, ['next'])
    await add('2.0.0', {}, [])
  })
  afterAll(() => house.close())

  const resolve = (ref: string, rest = '') =>
    house.call('GET', `/v1/resolve?ref=${encodeURIComponent(ref)}${rest}`)

  it.each([
    ['@acme/sql@^1', '1.2.0'],
    ['@acme/sql@1.0.x', '1.0.0'],
    ['@acme/sql@*', '2.0.0'],
    ['@acme/sql@>=1.3.0-rc.0 <2', '1.3.0-rc.1'],
    ['@acme/sql@1.0.0 - 1.1.0', '1.1.0'],
    ['@acme/sql@<1.1.0 || >=2', '2.0.0'],
    ['@acme/sql', '1.2.0'],
    ['@acme/sql@latest', '1.2.0'],
    ['@acme/sql@next', '1.3.0-rc.1'],
  ])('%s is %s', async (ref, version) => {
    const { status, body } = await resolve(ref)
    expect(body).toMatchObject({ version, digest: digests.get(version), skipped: [] })
    expect(status).toBe(200)
  })

  it('chooses the newest that the base and the runtime can serve, and says what it passed over', async () => {
    const base = `&base=${house.base.digest}`
    const { body } = await resolve('@acme/sql@^1', `${base}&operations=low_rank,prefix`)
    expect(body.version).toBe('1.0.0')
    expect(body.skipped).toEqual([
      {
        version: '1.2.0',
        reason: `is for base "other-base" (${other.digest}), not ${house.base.digest}`,
      },
      { version: '1.1.0', reason: 'needs scale, which the runtime does not support' },
    ])
    expect((await resolve('@acme/sql@^1', base)).body.version).toBe('1.1.0')
  })

  it('lists for every candidate why it was passed over when none is left', async () => {
    const { status, body } = await resolve('@acme/sql@^1.1', '&operations=prefix')
    expect(status).toBe(404)
    expect(body.error.code).toBe('ERR_RANGE_UNSATISFIED')
    expect(body.error.message).toBe(
      'no version of @acme/sql satisfies ^1.1: 1.2.0 needs low_rank, which the runtime does not support; 1.1.0 needs scale, which the runtime does not support; 2.0.0 is outside the range; 1.3.0-rc.1 is a pre-release outside the range; 1.0.0 is outside the range',
    )
    expect((await resolve('@acme/sql@^9')).body.error.code).toBe('ERR_RANGE_UNSATISFIED')
  })

  it('holds a tag or a digest to the one version it names', async () => {
    const base = `&base=${house.base.digest}`
    expect((await resolve('@acme/sql@latest', base)).body.error.code).toBe('ERR_BASE_MISMATCH')
    const exact = `@acme/sql@${digests.get('1.1.0')}`
    expect((await resolve(exact, base)).body.version).toBe('1.1.0')
    const unable = await resolve(exact, '&operations=low_rank')
    expect(unable.body.error.code).toBe('ERR_OPERATION_UNSUPPORTED')
    const unknown = await resolve(`@acme/sql@sha256:${'0'.repeat(64)}`)
    expect(unknown.body.error.code).toBe('ERR_VERSION_UNKNOWN')
    const noTag = await resolve('@acme/sql@beta')
    expect(noTag.body.error.code).toBe('ERR_VERSION_UNKNOWN')
    expect(noTag.body.error.message).toContain('latest, next')
    expect((await resolve('@acme/none')).body.error.code).toBe('ERR_PACKAGE_UNKNOWN')
  })

  it('follows a tag that was moved', async () => {
    const { call, token } = house
    const move = (tag: string, version: string, by = token) =>
      call('PUT', `/v1/packages/@acme/sql/tags/${tag}`, { token: by, json: { version } })
    expect((await move('stable', '1.0.0')).status).toBe(200)
    expect((await resolve('@acme/sql@stable')).body.version).toBe('1.0.0')
    expect((await move('stable', '2.0.0')).status).toBe(200)
    expect((await resolve('@acme/sql@stable')).body.version).toBe('2.0.0')
    expect((await move('stable', '7.0.0')).body.error.code).toBe('ERR_VERSION_UNKNOWN')
    expect((await move('v1', '1.0.0')).body.error.code).toBe('ERR_REQUEST_INVALID')
    const eve = await house.newcomer('eve', 'evil')
    expect((await move('stable', '1.0.0', eve.token)).body.error.code).toBe('ERR_FORBIDDEN')
    const { token: reader } = await house.tokenWith(['read'])
    expect((await move('stable', '1.0.0', reader)).body.error.code).toBe('ERR_FORBIDDEN')
  })

  it('lets a digest be cached for ever and a range for half a minute, and knows what the caller has', async () => {
    const range = await resolve('@acme/sql@^1')
    expect(range.headers.get('cache-control')).toBe('public, max-age=30')
    const digest = await resolve(`@acme/sql@${digests.get('1.0.0')}`)
    expect(digest.headers.get('cache-control')).toBe('public, max-age=31536000, immutable')
    const headers = { 'if-none-match': range.headers.get('etag')! }
    const path = '/v1/resolve?ref=@acme/sql@^1'
    const again = await house.call('GET', path, { headers })
    expect(again.status).toBe(304)
    expect(again.body).toHaveLength(0)
    const own = await house.call('GET', path, { token: house.token })
    expect(own.headers.get('cache-control')).toBe('private, max-age=30')
  })
})

const vectors = join(import.meta.dirname, '../../../shared/data/vectors/node-semver')
const present = existsSync(vectors)
if (!present) console.log('skipped: node-semver vectors are not at ../shared/data')

/** [range, version, options?]; cases with options are about modes that the registry never uses. */
const cases = (file: string): [string, string][] =>
  (JSON.parse(readFileSync(join(vectors, file), 'utf8')) as [string, string, unknown?][])
    .filter(([, , options]) => options === undefined || options === null)
    .map(([range, version]) => [range, version])

describe.skipIf(!present)("npm's own vectors of ranges", () => {
  let shelf: Awaited<ReturnType<typeof openShelf>>
  beforeAll(async () => {
    shelf = await openShelf()
  })
  afterAll(() => shelf.close())

  const chosen = async (range: string, version: string) => {
    const name = await shelf.put([{ version: new SemVer(version).version }])
    return (await shelf.choose(name, range)).version.version
  }

  it('are chosen where npm includes the version', async () => {
    const all = cases('range-include.json')
    expect(all.length).toBeGreaterThan(80)
    for (const [range, version] of all)
      expect(await chosen(range, version), range).toBe(new SemVer(version).version)
  })

  it('are refused where npm excludes it', async () => {
    // What is no version is never published.
    const all = cases('range-exclude.json').filter(([, version]) => valid(version) !== null)
    expect(all.length).toBeGreaterThan(50)
    for (const [range, version] of all)
      await expect(chosen(range, version), `${range} ${version}`).rejects.toMatchObject({
        code: 'ERR_RANGE_UNSATISFIED',
      })
  })

  it('order versions as npm compares them', () => {
    const pairs = JSON.parse(readFileSync(join(vectors, 'comparisons.json'), 'utf8')) as [
      string,
      string,
      unknown?,
    ][]
    const strict = pairs.filter(([, , options]) => !options)
    expect(strict.length).toBeGreaterThan(15)
    for (const [a, b] of strict) expect(sortKey(a) > sortKey(b), `${a} > ${b}`).toBe(true)
  })

  it('that a reference can hold are most of them', () => {
    const ranges = cases('range-include.json').map(([range]) => range)
    expect(ranges.filter(isRange).length / ranges.length).toBeGreaterThan(0.7)
  })
})

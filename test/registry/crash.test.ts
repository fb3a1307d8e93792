import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { createRegistry } from '@graft/registry/app.ts'
import { DEFAULT_LIMITS, type RegistryDeps } from '@graft/registry/deps.ts'
import { openFileBlobs } from '@graft/registry/node/file-blobs.ts'
import { openSqliteCatalogue, readMigrations } from '@graft/registry/node/sqlite-catalogue.ts'
import { sweepStaging } from '@graft/registry/publish/sweep.ts'
import type { BlobStore } from '@graft/registry/stores/blob-store.ts'
import type { Catalogue } from '@graft/registry/stores/catalogue.ts'
import { generateSigningKey } from '@graft/sdk/format/jws.ts'
import { describe, expect, it } from 'vitest'
import {
  adapter,
  type Call,
  furnish,
  httpClient,
  ISSUER,
  publish,
  publishRequest,
  SETUP_CODE,
  temporaryFolder,
} from './fixtures.ts'

/** Makes two or three parts of each of the tests' small blobs. */
const PART_BYTES = 150
const migrations = readMigrations(join(import.meta.dirname, '../../infra/migrations/registry'))

/** Counts the steps that change a store, and fails one: before it happens, or after it did but before it was told. */
function faulty() {
  const fault = { at: -1, after: false, steps: 0 }
  const wrap = <T extends object>(store: T, changing: readonly string[]): T =>
    new Proxy(store, {
      get(target, name) {
        const method = Reflect.get(target, name)
        if (!changing.includes(String(name))) return method
        return async (...args: unknown[]) => {
          const hit = fault.steps++ === fault.at
          if (hit && !fault.after) throw new Error(`power cut before ${String(name)}`)
          const result = await (method as (...all: unknown[]) => unknown).apply(target, args)
          if (hit) throw new Error(`power cut after ${String(name)}`)
          return result
        }
      },
    })
  return { fault, wrap }
}

async function open(limits = DEFAULT_LIMITS) {
  const folder = temporaryFolder()
  const catalogue = openSqliteCatalogue(join(folder.path, 'registry.sqlite'), migrations)
  const blobs = await openFileBlobs(join(folder.path, 'blobs'))
  const { fault, wrap } = faulty()
  const problems: unknown[] = []
  const deps: RegistryDeps = {
    catalogue: wrap<Catalogue>(catalogue, ['batch']),
    blobs: wrap<BlobStore>(blobs, [
      'stage',
      'putPart',
      'joinParts',
      'promote',
      'discard',
      'delete',
    ]),
    issuer: await generateSigningKey(),
    issuerName: ISSUER,
    logKey: await generateSigningKey(),
    witnesses: [],
    clock: () => new Date(),
    setupCode: SETUP_CODE,
    limits,
    log: (record) => {
      if (record.error) problems.push(record.error)
    },
  }
  const app = createRegistry(deps)
  return {
    ...(await furnish(app)),
    app,
    deps,
    fault,
    problems,
    folder: folder.path,
    close() {
      catalogue.close()
      folder.clean()
    },
  }
}

const visible = async (call: Call, name: string, digests: readonly string[]): Promise<string[]> => {
  const paths = [
    `/v1/packages/${name}`,
    `/v1/resolve?ref=${name}`,
    ...digests.flatMap((digest) => [`/v1/manifests/${digest}`, `/v1/blobs/${digest}`]),
  ]
  const seen: string[] = []
  for (const path of paths) if ((await call('GET', path)).status === 200) seen.push(path)
  const { packages } = (await call('GET', '/v1/packages')).body
  for (const found of packages) if (found.name === name) seen.push('/v1/packages')
  return seen
}

describe('a power cut at any step of a publish', () => {
  const cases = [false, true].flatMap((after) => [false, true].map((parts) => ({ after, parts })))
  it.each(cases)(
    'leaves nothing to be seen or everything, and the client that tries again succeeds (after the step: $after, in parts: $parts)',
    async ({ after, parts }) => {
      const house = await open(parts ? { ...DEFAULT_LIMITS, part: PART_BYTES } : DEFAULT_LIMITS)
      const { call, token, key, base, fault } = house
      fault.steps = 0
      const measure = await adapter({ base, name: '@acme/measure', withGoldens: true })
      await publish(call, token, measure, await publishRequest(measure, key))
      const steps = fault.steps
      // Upload row, two documents staged, request row, two blobs of two steps each, verifying,
      // four promotions, commit, discard, checkpoint.
      const sent = [...measure.files.values()].map(({ length }) => Math.ceil(length / PART_BYTES))
      // In parts, a blob is these, then their join and its row.
      expect(steps).toBe(16 + (parts ? sent.reduce((sum, count) => sum + count, 0) : 0))
      for (let at = 0; at < steps; at++) {
        const name = `@acme/cut-${at}-${after}`
        const what = await adapter({ base, name, seed: 1000 + at * 10, withGoldens: true })
        const request = await publishRequest(what, key)
        const digests = [what.digest, ...what.files.keys()]
        Object.assign(fault, { at, after, steps: 0 })
        const cut = await publish(call, token, what, request)
        fault.at = -1
        const seen = await visible(call, name, digests)
        const all = await visible(call, measure.manifest.name, [
          measure.digest,
          ...measure.files.keys(),
        ])
        if (cut.status === 200 || seen.length > 0) expect(seen.length, name).toBe(all.length)
        if (cut.status !== 200) {
          expect(cut.body.error).toMatchObject({ code: 'ERR_INTERNAL' })
          expect(JSON.stringify(cut.body)).not.toContain('power cut')
        }
        const again = await publish(call, token, what, request)
        expect(again.body, `${name} again`).toMatchObject({
          state: 'published',
          digest: what.digest,
        })
        expect((await visible(call, name, digests)).length).toBe(all.length)
        const record = (await call('GET', `/v1/packages/${name}`)).body
        expect(record.versions).toHaveLength(1)
        expect(record.tags).toEqual({ latest: '1.0.0' })
      }
      expect(house.problems.length).toBeGreaterThan(steps - 3)
      house.close()
    },
  )

  it('can be completed by calling complete alone, once all blobs had arrived', async () => {
    const house = await open()
    const { call, token, key, base, fault } = house
    const what = await adapter({ base, withGoldens: true })
    const json = await publishRequest(what, key)
    const started = (await call('POST', '/v1/publish', { token, json })).body
    for (const { url, digest } of started.missing)
      await call('PUT', url, { token, body: what.files.get(digest)! })
    const complete = () => call('POST', `/v1/publish/${started.id}/complete`, { token })
    for (let at = 0; at < 6; at++) {
      Object.assign(fault, { at, steps: 0 })
      expect((await complete()).status, `step ${at}`).toBe(500)
      fault.at = -1
      expect(await visible(call, '@acme/sql', [what.digest])).toEqual([])
      const state = (await call('GET', `/v1/publish/${started.id}`, { token })).body.state
      expect(state).toBe(at === 0 ? 'uploading' : 'verifying')
    }
    expect((await complete()).body.state).toBe('published')
    house.close()
  })
})

describe('two first versions of one package at once', () => {
  it('never let a private one out under a package that the other made public', async () => {
    const house = await open()
    const { call, token, key, base, deps } = house
    const name = '@acme/both'
    const upload = async (version: string, visibility: 'public' | 'private', seed: number) => {
      const what = await adapter({ base, name, version, seed })
      const json = await publishRequest(what, key, { visibility })
      const { id, missing } = (await call('POST', '/v1/publish', { token, json })).body
      for (const { url, digest } of missing)
        await call('PUT', url, { token, body: what.files.get(digest)! })
      return { what, complete: () => call('POST', `/v1/publish/${id}/complete`, { token }) }
    }
    const open1 = await upload('1.0.0', 'public', 1)
    const secret = await upload('2.0.0', 'private', 2)
    // The public one commits in the moment between the private one's checks and its own commit.
    const { catalogue } = deps
    deps.catalogue = {
      ...catalogue,
      query: catalogue.query,
      async batch(statements) {
        if (statements.some(({ sql }) => sql.includes('INSERT INTO versions'))) {
          deps.catalogue = catalogue
          expect((await open1.complete()).body.state).toBe('published')
        }
        return catalogue.batch(statements)
      },
    }
    expect((await secret.complete()).status).toBe(500)
    expect((await secret.complete()).body.error.code).toBe('ERR_REQUEST_INVALID')
    const { versions } = (await call('GET', `/v1/packages/${name}`)).body
    expect(versions).toMatchObject([{ version: '1.0.0' }])
    expect(await visible(call, '@acme/none', [secret.what.digest])).toEqual([])
    house.close()
  })
})

describe('the sweeper', () => {
  it('ends what was given up, frees its bytes and touches nothing else', async () => {
    const house = await open()
    const { call, token, key, base } = house
    const [kept, dropped] = [
      await adapter({ base, name: '@acme/kept', seed: 1 }),
      await adapter({ base, name: '@acme/dropped', seed: 2 }),
    ]
    await publish(call, token, kept, await publishRequest(kept, key))
    const json = await publishRequest(dropped, key)
    const started = (await call('POST', '/v1/publish', { token, json })).body
    const [{ url, digest }] = started.missing
    await call('PUT', url, { token, body: dropped.files.get(digest)! })
    const staging = () => readdirSync(join(house.folder, 'blobs/staging'))
    expect(staging()).toEqual([started.id])
    expect(await sweepStaging(house.deps, new Date(Date.now() - 60_000))).toBe(0)
    expect(staging()).toEqual([started.id])
    expect(await sweepStaging(house.deps, new Date(Date.now() + 1))).toBe(1)
    expect(staging()).toEqual([])
    const gone = await call('GET', `/v1/publish/${started.id}`, { token })
    expect(gone.body.error.code).toBe('ERR_NAME_UNKNOWN')
    expect((await call('GET', `/v1/blobs/${[...kept.files.keys()][0]}`)).status).toBe(200)
    const again = await publish(httpClient(house.app), token, dropped, json)
    expect(again.body.state).toBe('published')
    house.close()
  })
})

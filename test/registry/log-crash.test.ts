import { join } from 'node:path'
import { createRegistry } from '@graft/registry/app.ts'
import { DEFAULT_LIMITS, type RegistryDeps } from '@graft/registry/deps.ts'
import { openFileBlobs } from '@graft/registry/node/file-blobs.ts'
import { openSqliteCatalogue, readMigrations } from '@graft/registry/node/sqlite-catalogue.ts'
import { type Catalogue, type SqlStatement, sql } from '@graft/registry/stores/catalogue.ts'
import { verifyLogProof } from '@graft/sdk/client/verify-log.ts'
import { generateSigningKey } from '@graft/sdk/format/jws.ts'
import { expect, it } from 'vitest'
import {
  adapter,
  furnish,
  ISSUER,
  publish,
  publishRequest,
  SETUP_CODE,
  temporaryFolder,
  tinyBase,
} from './fixtures.ts'
import { clientOf, factsOf } from './log-contract.ts'

const migrations = readMigrations(join(import.meta.dirname, '../../infra/migrations/registry'))

type Cut = 'before' | 'after' | 'within'

/**
 * A catalogue whose power is cut at one of its batches: before it, after it, or at its last statement. `hold` keeps the next
 * checkpoint from being written until it resolves.
 */
function cuttable(catalogue: Catalogue) {
  const cut = { at: -1, how: 'before' as Cut, batches: 0, hold: null as Promise<void> | null }
  const cutting: Catalogue = {
    query: catalogue.query,
    async batch(statements: readonly SqlStatement[]) {
      const { hold } = cut
      if (hold && statements.some((row) => row.sql.includes('INTO log_checkpoint'))) {
        cut.hold = null
        await hold
      }
      if (cut.batches++ !== cut.at) return catalogue.batch(statements)
      if (cut.how === 'within') await catalogue.batch([...statements, sql('power cut')])
      if (cut.how === 'after') await catalogue.batch(statements)
      throw new Error('power cut')
    },
  }
  return { cut, cutting }
}

async function open(folder = temporaryFolder(), until = migrations) {
  const catalogue = openSqliteCatalogue(join(folder.path, 'registry.sqlite'), until)
  const { cut, cutting } = cuttable(catalogue)
  const deps: RegistryDeps = {
    catalogue: cutting,
    blobs: await openFileBlobs(join(folder.path, 'blobs')),
    issuer: await generateSigningKey(),
    issuerName: ISSUER,
    logKey: await generateSigningKey(),
    witnesses: [],
    clock: () => new Date(),
    setupCode: SETUP_CODE,
    limits: DEFAULT_LIMITS,
    log: () => {},
  }
  const close = () => {
    catalogue.close()
    folder.clean()
  }
  return { app: createRegistry(deps), catalogue, cut, close }
}

/** Every row that the log is about, and every leaf, as text; equal when neither is there without the other. */
async function rowsAndLeaves(catalogue: Catalogue) {
  const rows = await catalogue.query<{ what: string }>(
    `SELECT 'version.publish ' || digest AS what FROM versions
     UNION ALL SELECT 'tag.move ' || version || ' ' || tag FROM tags
     UNION ALL SELECT 'key.add ' || kid FROM publisher_keys
     UNION ALL SELECT 'key.revoke ' || kid FROM publisher_keys WHERE revoked_at IS NOT NULL`,
  )
  const leaves = await catalogue.query<{ kind: string; digest: string | null; entry: string }>(
    'SELECT kind, digest, entry FROM log_leaves',
  )
  const said = leaves.map(({ kind, digest, entry }) => {
    const { facts } = JSON.parse(entry)
    if (kind === 'tag.move') return `${kind} ${digest} ${facts.tag ?? 'latest'}`
    return `${kind} ${digest ?? facts.kid}`
  })
  return { rows: rows.map(({ what }) => what).sort(), leaves: [...new Set(said)].sort() }
}

it('never has a row without its leaf or a leaf without its row, wherever the power is cut', async () => {
  const { app, catalogue, cut, close } = await open()
  const { call, token, key, base } = await furnish(app)
  const client = clientOf(app, token)
  let seed = 1
  for (const visibility of ['public', 'private'] as const)
    for (const how of ['before', 'within', 'after'] as const)
      for (let at = 0, cuts = 1; cuts > 0; at++) {
        const made = await adapter({ base, name: `@acme/cut-${seed}`, seed: (seed += 10) })
        const request = await publishRequest(made, key, { visibility })
        Object.assign(cut, { at, how, batches: 0 })
        const answer = await publish(call, token, made, request)
        cuts = cut.batches > at ? 1 : 0
        cut.at = -1
        const label = `${visibility}, cut ${how} batch ${at}`
        const { rows, leaves } = await rowsAndLeaves(catalogue)
        expect(leaves, label).toEqual(rows)
        if (answer.status !== 200) {
          const again = await publish(call, token, made, request)
          expect(again.body.state, label).toBe('published')
        }
        // What was cut off before it was signed is under the next checkpoint.
        const proof = await client.log.proof(made.digest)
        const { key: logKey } = await client.log.key()
        await verifyLogProof(factsOf(made), proof, logKey)
      }
  const tag = (name: string) =>
    call('PUT', `/v1/packages/@acme/cut-1/tags/${name}`, { token, json: { version: '1.0.0' } })
  const put = async (status: string, jwk: JsonWebKey) =>
    call('POST', '/v1/orgs/acme/keys', { token, json: { jwk, status } })
  for (const how of ['before', 'within', 'after'] as const)
    for (let at = 0; at < 2; at++)
      for (const change of [
        () => tag(`t-${how}-${at}`),
        () => put('revoked', key.publicJwk),
        async () => put('active', (await generateSigningKey()).publicJwk),
      ]) {
        Object.assign(cut, { at, how, batches: 0 })
        await change()
        cut.at = -1
        const { rows, leaves } = await rowsAndLeaves(catalogue)
        expect(leaves, `${how} ${at}`).toEqual(rows)
      }
  expect((await rowsAndLeaves(catalogue)).rows.length).toBeGreaterThan(40)
  close()
})

it('logs what was published before there was a log, once, however many ask at the same time', async () => {
  const folder = temporaryFolder()
  const old = openSqliteCatalogue(join(folder.path, 'registry.sqlite'), migrations.slice(0, 1))
  const at = '2026-01-01T00:00:00.000Z'
  const base = await tinyBase()
  const version = (digest: string, name: string) =>
    sql(
      `INSERT INTO versions (digest, package, version, precedence, base_digest, base_name, operations, family,
         description, keywords, size, signatures, attestations, upload, published_by, published_at)
       VALUES (?, ?, '1.0.0', '1.0.0', ?, 'b', '[]', 'lora', '', '[]', 1, '[]', '[]', 'u', 'user:ada', ?)`,
      digest,
      name,
      base.digest,
      at,
    )
  const [open1, hidden] = [`sha256:${'1'.repeat(64)}`, `sha256:${'2'.repeat(64)}`]
  await old.batch([
    sql(`INSERT INTO orgs (name, created_at) VALUES ('acme', ?)`, at),
    sql(
      `INSERT INTO publisher_keys (org, kid, jwk, created_at) VALUES ('acme', 'k1', '{}', ?)`,
      at,
    ),
    sql(
      `INSERT INTO publisher_keys (org, kid, jwk, created_at, revoked_at) VALUES ('acme', 'k2', '{}', ?, ?)`,
      at,
      at,
    ),
    sql(
      `INSERT INTO bases (digest, name, identity, tensors, created_at, created_by)
       VALUES (?, 'b', '{}', 't', ?, 'user:ada')`,
      base.digest,
      at,
    ),
    sql(
      `INSERT INTO packages (name, org, visibility, created_at)
       VALUES ('@acme/open', 'acme', 'public', ?), ('@acme/hidden', 'acme', 'private', ?)`,
      at,
      at,
    ),
    version(open1, '@acme/open'),
    version(hidden, '@acme/hidden'),
    sql(
      `INSERT INTO tags (package, tag, version, moved_at) VALUES ('@acme/open', 'latest', ?, ?)`,
      open1,
      at,
    ),
  ])
  old.close()
  const house = await open(folder)
  const { log } = clientOf(house.app)
  const feeds = await Promise.all(Array.from({ length: 8 }, () => log.entries(0)))
  for (const { size, entries } of feeds) {
    expect(size).toBe(5)
    expect(entries.map(({ entry }) => JSON.parse(entry).kind)).toEqual([
      'key.add',
      'key.revoke',
      'version.publish',
      'version.publish',
      'tag.move',
    ])
    expect(JSON.stringify(entries)).not.toMatch(/hidden|2222/)
  }
  const digest = open1 as never
  const proof = await log.proof(digest)
  const what = { name: '@acme/open', version: '1.0.0', digest }
  expect((await verifyLogProof(what, proof, (await log.key()).key)).index).toBe(2)
  house.close()
})

it('shows no checkpoint smaller than one it showed, when a slow signer comes last', async () => {
  const { app, cut, close } = await open()
  const { call, token } = await furnish(app)
  const { log } = clientOf(app)
  const sizeOf = async () => (await log.entries(0)).size
  const before = await sizeOf()
  const add = async () => {
    const { publicJwk } = await generateSigningKey()
    return call('POST', '/v1/orgs/acme/keys', { token, json: { jwk: publicJwk } })
  }
  Object.assign(cut, { at: 1, how: 'before', batches: 0 })
  expect((await add()).status).toBe(500)
  cut.at = -1
  let release = () => {}
  cut.hold = new Promise<void>((resolve) => {
    release = resolve
  })
  const slow = log.checkpoint()
  await expect.poll(() => cut.hold === null).toBe(true)
  expect((await add()).status).toBe(200)
  expect(await sizeOf()).toBe(before + 2)
  release()
  expect(await slow).toContain(`\n${before + 2}\n`)
  expect(await log.checkpoint()).toContain(`\n${before + 2}\n`)
  close()
})

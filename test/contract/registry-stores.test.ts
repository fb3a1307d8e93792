import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openFileBlobs } from '@graft/registry/node/file-blobs.ts'
import { openSqliteCatalogue, readMigrations } from '@graft/registry/node/sqlite-catalogue.ts'
import { streamOf } from '@graft/registry/stores/blob-store.ts'
import { sql } from '@graft/registry/stores/catalogue.ts'
import { sha256 } from '@graft/sdk/format/digest.ts'
import { expect, it } from 'vitest'
import { blobStoreContract, catalogueContract } from './registry-stores.ts'

const folder = () => {
  const path = mkdtempSync(join(tmpdir(), 'graft-stores-'))
  return { path, close: async () => rmSync(path, { recursive: true, force: true }) }
}
const migrations = readMigrations(join(import.meta.dirname, '../../infra/migrations/registry'))

blobStoreContract('files', async () => {
  const { path, close } = folder()
  return { blobs: await openFileBlobs(path), close }
})

catalogueContract('node:sqlite', async () => {
  const { path, close } = folder()
  const catalogue = openSqliteCatalogue(join(path, 'registry.sqlite'), migrations)
  return {
    catalogue,
    async close() {
      catalogue.close()
      await close()
    },
  }
})

it('files: what a crash left half written is gone at the next start, what was promoted is there', async () => {
  const { path, close } = folder()
  const bytes = new TextEncoder().encode('weights')
  const digest = await sha256(bytes)
  const before = await openFileBlobs(path)
  await before.stage('u', digest, bytes.length, streamOf(bytes))
  await before.promote('u', digest)
  let cut = () => {}
  const half = new ReadableStream<Uint8Array>({
    start(controller) {
      controller.enqueue(bytes.subarray(0, 3))
      cut = () => controller.error(new Error('cut'))
    },
  })
  const pending = before.stage('v', digest, bytes.length, half).catch(() => {})
  await expect.poll(() => readdirSync(join(path, 'tmp')).length).toBe(1)
  const after = await openFileBlobs(path)
  expect(readdirSync(join(path, 'tmp'))).toEqual([])
  expect(await after.head(digest)).toBe(bytes.length)
  expect(await after.getStaged('v', digest)).toBeNull()
  cut()
  await pending
  await close()
})

it('files: an upload id that would climb out of the folder is refused', async () => {
  const { path, close } = folder()
  const blobs = await openFileBlobs(path)
  await expect(blobs.discard('../blobs')).rejects.toThrow(/no file name/)
  await close()
})

it('node:sqlite: keeps its rows over a restart and applies only new migrations', async () => {
  const { path, close } = folder()
  const file = join(path, 'registry.sqlite')
  const before = openSqliteCatalogue(file, migrations)
  await before.batch([sql(`INSERT INTO orgs (name, created_at) VALUES ('acme', 'now')`)])
  before.close()
  const added = { name: '9999-added.sql', sql: 'ALTER TABLE orgs ADD COLUMN motto TEXT' }
  const after = openSqliteCatalogue(file, [...migrations, added])
  expect(await after.query('SELECT name, motto FROM orgs')).toEqual([{ name: 'acme', motto: null }])
  after.close()
  const older = () => openSqliteCatalogue(file, migrations)
  expect(older).toThrow(expect.objectContaining({ code: 'ERR_STATE_DAMAGED' }))
  const edited = migrations.map((m) => ({ ...m, sql: `${m.sql}-- edited` }))
  expect(() => openSqliteCatalogue(file, [...edited, added])).toThrow(
    expect.objectContaining({ code: 'ERR_STATE_DAMAGED' }),
  )
  await close()
})

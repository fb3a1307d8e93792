import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { createNodeRegistry } from '@graft/registry/node/create-node-registry.ts'
import { openFileBlobs } from '@graft/registry/node/file-blobs.ts'
import type { Digest } from '@graft/sdk/format/digest.ts'
import { afterAll, expect, it } from 'vitest'
import {
  adapter,
  furnish,
  ISSUER,
  openRegistry,
  publish,
  publishRequest,
  SETUP_CODE,
  temporaryFolder,
} from './fixtures.ts'
import { versionStates } from './version-states.ts'

const opening = openRegistry()
afterAll(async () => (await opening).close())

versionStates('node:sqlite', async () => (await opening).app)

it('every change left an audit line and a leaf of the log, in order and once', async () => {
  const { stateDir } = await opening
  const db = new DatabaseSync(join(stateDir, 'registry.sqlite'), { readOnly: true })
  const events = db
    .prepare(`SELECT actor, kind, subject FROM events WHERE subject LIKE '@acme/yank%' ORDER BY id`)
    .all() as { actor: string; kind: string; subject: string }[]
  const kinds = events.map(({ kind }) => kind).filter((kind) => kind !== 'version.publish')
  expect(kinds).toEqual(['version.yank', 'tag.move', 'version.unyank'])
  expect(events.find(({ kind }) => kind === 'version.yank')).toMatchObject({
    actor: 'user:ada',
    subject: expect.stringMatching(/^@acme\/yank@1\.2\.0 sha256:\w{64} answers in verse$/),
  })
  const leaves = db
    .prepare(`SELECT kind, entry FROM log_leaves WHERE subject = ? ORDER BY i`)
    .all('@acme/yank') as { kind: string; entry: string }[]
  const said = leaves.map(({ kind }) => kind)
  expect(said.slice(-3)).toEqual(['version.yank', 'tag.move', 'version.unyank'])
  expect(JSON.parse(leaves.at(-3)!.entry)).toMatchObject({
    package: '@acme/yank',
    facts: { version: '1.2.0', reason: 'answers in verse' },
  })
  const hidden = db
    .prepare(`SELECT entry FROM log_leaves WHERE subject = ? AND kind = 'version.yank'`)
    .all('@acme/hidden') as { entry: string }[]
  expect(hidden).toHaveLength(1)
  expect(hidden[0]!.entry).not.toMatch(/hidden|secret reason/)
  db.close()
})

it('a store that fails while bytes are removed leaves them unreadable, and asking again removes them', async () => {
  const other = temporaryFolder()
  const files = await openFileBlobs(join(other.path, 'blobs'))
  let failures = 1
  const blobs = {
    ...files,
    delete: async (digest: Digest) => {
      if (failures-- > 0) throw new Error('the disk is gone')
      await files.delete(digest)
    },
  }
  const registry = await createNodeRegistry({
    ...{ stateDir: other.path, issuerName: ISSUER, setupCode: SETUP_CODE, blobs },
    log: () => {},
  })
  const house = await furnish(registry.app)
  const what = await adapter({ base: house.base })
  await publish(house.call, house.token, what, await publishRequest(what, house.key))
  const remove = () =>
    house.call('PUT', '/v1/packages/@acme/sql/versions/1.0.0/tombstone', {
      token: house.token,
      json: { reason: 'a leak' },
    })
  expect((await remove()).status).toBe(500)
  for (const digest of [what.digest, ...what.files.keys()])
    expect((await house.call('GET', `/v1/blobs/${digest}`)).status).toBe(404)
  expect((await remove()).body.state.tombstoned.reason).toBe('a leak')
  for (const digest of [what.digest, ...what.files.keys()])
    expect(await files.head(digest)).toBeNull()
  await registry.close()
  other.clean()
})

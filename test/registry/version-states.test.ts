import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { createNodeRegistry } from '@graft/registry/node/create-node-registry.ts'
import { afterAll, expect, it } from 'vitest'
import { ISSUER, SETUP_CODE, temporaryFolder } from './fixtures.ts'
import { versionStates } from './version-states.ts'

const folder = temporaryFolder()
const opening = createNodeRegistry({
  stateDir: folder.path,
  issuerName: ISSUER,
  setupCode: SETUP_CODE,
})
afterAll(async () => {
  await (await opening).close()
  folder.clean()
})

versionStates('node:sqlite', async () => (await opening).app)

it('every change left an audit line and a leaf of the log, in order and once', () => {
  const db = new DatabaseSync(join(folder.path, 'registry.sqlite'), { readOnly: true })
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

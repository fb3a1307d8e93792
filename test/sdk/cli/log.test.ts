import { cpSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createNodeRegistry } from '@graft/registry/node/create-node-registry.ts'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { listen } from '../../edge/helpers/listen.ts'
import {
  adapter,
  furnish,
  httpClient,
  ISSUER,
  publish,
  publishRequest,
  SETUP_CODE,
  temporaryFolder,
} from '../../registry/fixtures.ts'
import { createShell } from './helpers.ts'

const state = temporaryFolder()
const backup = temporaryFolder()
let app: Awaited<ReturnType<typeof createNodeRegistry>>
let house: Awaited<ReturnType<typeof furnish>>
let server: Awaited<ReturnType<typeof listen>>
let shell: ReturnType<typeof createShell>

const start = async () => {
  app = await createNodeRegistry({
    stateDir: state.path,
    issuerName: ISSUER,
    setupCode: SETUP_CODE,
  })
}
beforeAll(async () => {
  await start()
  house = await furnish(app.app)
  // One address for whatever the registry is restarted as.
  server = await listen({ fetch: (request: Request) => app.app.fetch(request) } as never)
  shell = createShell({ GRAFT_REGISTRY: server.url, GRAFT_TOKEN: house.token })
})
afterAll(async () => {
  await server.close()
  await app.close()
  for (const folder of [state, backup, shell]) folder.clean()
})

const add = async (name: string, seed: number, visibility: 'public' | 'private' = 'public') => {
  const made = await adapter({ base: house.base, name, seed })
  const request = await publishRequest(made, house.key, { visibility })
  return publish(httpClient(app.app), house.token, made, request)
}
const memory = () => JSON.parse(readFileSync(join(shell.folder, 'home/logs.json'), 'utf8'))
const offline = { extra: { GRAFT_REGISTRY: 'http://127.0.0.1:9' } }

it('pulls with a proof that the folder keeps, and remembers the log', async () => {
  await add('@acme/sql', 1)
  const pulled = await shell.graft(['pull', '@acme/sql'])
  expect([pulled.exit, pulled.stderr]).toEqual([0, expect.stringContaining('first meeting')])
  const { key, checkpoint } = memory()[server.url]
  expect(key).toMatch(/^registry\.test\+[0-9a-f]{8}\+/)
  expect(checkpoint).toMatch(/^registry\.test\n3\n/)
  const record = JSON.parse(readFileSync(join(shell.folder, 'sql-1.0.0/version.json'), 'utf8'))
  expect(record.log).toMatchObject({ index: 1, checkpoint })
  const checked = (await shell.graft(['verify', 'sql-1.0.0', '--json'], offline)).json()
  expect(checked.log).toEqual({
    origin: 'registry.test',
    index: 1,
    size: 3,
    at: expect.stringMatching(/Z$/),
  })
})

it('proves a private adapter too, and says when a folder cannot be checked', async () => {
  await add('@acme/secret', 2, 'private')
  expect((await shell.graft(['pull', '@acme/secret'])).exit).toBe(0)
  const known = (await shell.graft(['verify', 'secret-1.0.0', '--json'], offline)).json()
  expect(known.log).toMatchObject({ index: 3, size: 5 })
  const elsewhere = { extra: { ...offline.extra, GRAFT_HOME: join(shell.folder, 'other') } }
  const unknown = await shell.graft(['verify', 'secret-1.0.0'], elsewhere)
  expect([unknown.exit, unknown.stdout]).toEqual([0, expect.stringContaining('not checked')])
})

it('refuses a folder whose proof was changed', async () => {
  const path = join(shell.folder, 'sql-1.0.0/version.json')
  const whole = readFileSync(path, 'utf8')
  const record = JSON.parse(whole)
  writeFileSync(path, JSON.stringify({ ...record, log: { ...record.log, index: 0 } }))
  const forged = await shell.graft(['verify', 'sql-1.0.0', '--json'], offline)
  expect([forged.exit, forged.json().error.code]).toEqual([5, 'ERR_DIGEST_MISMATCH'])
  writeFileSync(path, whole)
})

it('refuses a registry that was set back to an older backup, and goes on when it is whole again', async () => {
  await app.close()
  cpSync(state.path, backup.path, { recursive: true })
  await start()
  await add('@acme/newer', 3)
  expect((await shell.graft(['pull', '@acme/newer'])).exit).toBe(0)
  const seen = memory()
  await app.close()
  const whole = temporaryFolder()
  cpSync(state.path, whole.path, { recursive: true })
  rmSync(state.path, { recursive: true })
  cpSync(backup.path, state.path, { recursive: true })
  await start()
  const refused = await shell.graft(['pull', '@acme/sql', '-o', 'again', '--json'])
  expect([refused.exit, refused.json().error]).toEqual([
    5,
    { code: 'ERR_DIGEST_MISMATCH', message: expect.stringContaining('rolled back') },
  ])
  expect(memory()).toEqual(seen)
  await app.close()
  rmSync(state.path, { recursive: true })
  cpSync(whole.path, state.path, { recursive: true })
  whole.clean()
  await start()
  expect((await shell.graft(['verify', '@acme/sql@1', '--json'])).json().log).toMatchObject({
    index: 1,
    size: 7,
  })
})

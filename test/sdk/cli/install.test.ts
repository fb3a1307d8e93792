import { cpSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { createNodeRegistry } from '@graft/registry/node/create-node-registry.ts'
import { formatLock, parseLock } from '@graft/sdk/client/lock.ts'
import type { Digest } from '@graft/sdk/format/digest.ts'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { listen } from '../../edge/helpers/listen.ts'
import {
  adapter,
  ISSUER,
  openHouse,
  publish,
  publishRequest,
  temporaryFolder,
} from '../../registry/fixtures.ts'
import { createShell } from './helpers.ts'

let house: Awaited<ReturnType<typeof openHouse>>
let server: Awaited<ReturnType<typeof listen>>
const digests = new Map<string, Digest>()
const shells: ReturnType<typeof createShell>[] = []
/** While set, blobs of this digest are answered with a failure. */
let broken: Digest | null = null

const shellAt = (env: Record<string, string> = {}) => {
  const shell = createShell({ GRAFT_REGISTRY: server.url, GRAFT_TOKEN: house.token, ...env })
  shells.push(shell)
  const lock = join(shell.folder, 'graft.lock')
  return {
    ...shell,
    lock: () => readFileSync(lock, 'utf8'),
    write: (text: string) => writeFileSync(lock, text),
    path: (...parts: string[]) => join(shell.folder, ...parts),
  }
}
const weights = new Map<string, Digest>()
const add = async (name: string, version: string, rest: object = {}): Promise<void> => {
  const { base, call, token, key } = house
  const what = await adapter({ base, name, version, seed: digests.size * 10 + 1, ...rest })
  const answer = await publish(call, token, what, await publishRequest(what, key))
  expect(answer.body).toMatchObject({ state: 'published' })
  digests.set(`${name}@${version}`, what.digest)
  weights.set(`${name}@${version}`, [...what.files.keys()][0]!)
}

beforeAll(async () => {
  house = await openHouse()
  const { app } = house.registry
  server = await listen({
    fetch: async (request: Request) =>
      broken !== null && request.url.endsWith(`/v1/blobs/${broken}`)
        ? new Response('gone', { status: 500 })
        : app.fetch(request),
  })
  for (const version of ['1.0.0', '1.1.0', '2.0.0']) await add('@acme/sql', version)
  await add('@acme/chat', '0.3.0', { rank: 4 })
})
afterAll(async () => {
  for (const shell of shells) shell.clean()
  await server.close()
  await house.close()
})

it('installs what was asked for, and writes a lock whose bytes do not depend on the order', async () => {
  const [one, other] = [shellAt(), shellAt()]
  const first = await one.graft(['install', '@acme/sql@^1', '@acme/chat', '--json'])
  expect(first.json()).toMatchObject({
    locked: true,
    adapters: [
      { name: '@acme/chat', version: '0.3.0', folder: 'adapters/@acme/chat', written: true },
      { name: '@acme/sql', version: '1.1.0', folder: 'adapters/@acme/sql', written: true },
    ],
  })
  const withoutLog = (text: string) => text.replace(/"log": \{[^}]*\}/g, '"log": "..."')
  expect(withoutLog(one.lock())).toBe(`{
  "lockVersion": 1,
  "registries": {
    "@acme": {
      "url": "${server.url}",
      "log": "..."
    }
  },
  "adapters": {
    "@acme/chat": {
      "wanted": "latest",
      "version": "0.3.0",
      "digest": "${digests.get('@acme/chat@0.3.0')}",
      "base": {
        "name": "tiny-base",
        "digest": "${house.base.digest}"
      }
    },
    "@acme/sql": {
      "wanted": "^1",
      "version": "1.1.0",
      "digest": "${digests.get('@acme/sql@1.1.0')}",
      "base": {
        "name": "tiny-base",
        "digest": "${house.base.digest}"
      }
    }
  }
}
`)
  expect(readdirSync(one.path('adapters/@acme/sql')).sort()).toEqual([
    ...['adapter.json', 'adapter.safetensors', 'version.json'],
  ])
  await other.graft(['install', '@acme/chat', '-q'])
  await other.graft(['install', '@acme/sql@^1', '-q'])
  expect(withoutLog(other.lock())).toBe(withoutLog(one.lock()))
  // What is in place is left alone, and no registry is asked.
  const again = await one.graft(['install', '--json'])
  expect(again.json()).toMatchObject({
    locked: false,
    adapters: [{ written: false }, { written: false }],
  })
  for (const folder of ['adapters/@acme/chat', 'adapters/@acme/sql'])
    expect((await one.graft(['verify', folder])).exit).toBe(0)
})

it('--frozen installs from the lock alone, and fails on whatever drifted, by name, changing nothing', async () => {
  const from = shellAt()
  await from.graft(['install', '@acme/sql@^1', '-q'])
  const text = from.lock()
  const ci = shellAt()
  const refused = async (args: string[], ...words: string[]) => {
    const ran = await ci.graft(['install', '--frozen', '--json', ...args])
    expect([ran.exit, ran.json().error.code]).toEqual([5, 'ERR_DIGEST_MISMATCH'])
    for (const word of words) expect(ran.json().error.message).toContain(word)
  }
  await refused([], 'there is no graft.lock here')
  ci.write(text)
  await refused(['@acme/sql@^2'], '@acme/sql: graft.lock was made for ^1, and ^2 is asked for')
  await refused(['@acme/chat'], '@acme/chat: not in graft.lock')
  ci.write(text.replace('"version": "1.1.0"', '"version": "2.0.0"'))
  await refused([], '@acme/sql: 2.0.0 is not in ^1')
  ci.write(text.replace('"version": "1.1.0"', '"version": "1.0.0"'))
  await refused([], '@acme/sql: the version is 1.0.0 in graft.lock and 1.1.0 there')
  ci.write(text.replace(house.base.digest, `sha256:${'0'.repeat(64)}`))
  await refused([], '@acme/sql: the base is sha256:0000')
  expect(existsSync(ci.path('adapters'))).toBe(false)
  ci.write(text)
  const good = await ci.graft(['install', '--frozen', '--json', '@acme/sql@^1'])
  expect(good.json().adapters).toMatchObject([{ version: '1.1.0', written: true }])
  expect(ci.lock()).toBe(text)
  const file = ci.path('adapters/@acme/sql/adapter.safetensors')
  const bytes = readFileSync(file)
  bytes[bytes.length - 1]! ^= 1
  writeFileSync(file, bytes)
  await refused([], 'adapters/@acme/sql: its bytes are not those of @acme/sql@1.1.0')
  const repaired = await ci.graft(['install'])
  expect(repaired.stderr).toContain('was changed since it was installed')
  expect((await ci.graft(['install', '--frozen'])).exit).toBe(0)
})

it('goes on where it was cut off: folders are whole or absent, and the lock holds only what was proven', async () => {
  const shell = shellAt()
  broken = weights.get('@acme/sql@1.1.0')!
  const cut = await shell.graft(['install', '@acme/chat', '@acme/sql@^1', '--json'])
  broken = null
  expect(cut.exit).not.toBe(0)
  expect(existsSync(shell.path('graft.lock'))).toBe(false)
  expect(readdirSync(shell.path('adapters/@acme'))).toEqual(['chat'])
  const again = await shell.graft(['install', '@acme/chat', '@acme/sql@^1', '--json'])
  expect(again.json().adapters).toMatchObject([
    { name: '@acme/chat', written: false },
    { name: '@acme/sql', written: true },
  ])
})

it('a lock keeps a yanked version and says so; update leaves it, and stays on its base', async () => {
  await add('@acme/tool', '1.0.0')
  await add('@acme/tool', '1.1.0')
  const shell = shellAt()
  await shell.graft(['install', '@acme/tool@^1', '-q'])
  const yanked = await shell.graft(['yank', '@acme/tool@1.1.0', '--reason', 'answers in verse'])
  expect(yanked.stdout).toBe('@acme/tool@1.1.0: yanked (answers in verse)\n')
  expect(yanked.stderr).toContain('latest is 1.0.0')
  rmSync(shell.path('adapters'), { recursive: true })
  const locked = await shell.graft(['install', '--frozen'])
  expect([locked.exit, locked.stdout]).toEqual([
    0,
    'installed @acme/tool@1.1.0 adapters/@acme/tool\n',
  ])
  expect(locked.stderr).toContain('@acme/tool@1.1.0 is yanked (answers in verse)')
  const updated = await shell.graft(['update'])
  expect(updated.stdout).toContain('installed @acme/tool@1.0.0')
  expect(updated.stderr).toContain('@acme/tool: 1.1.0 -> 1.0.0')
  expect(updated.stderr).toMatch(/passed over @acme\/tool@1\.1\.0: was yanked at \S+: answers/)
  expect(parseLock(Buffer.from(shell.lock())).adapters['@acme/tool']).toMatchObject({
    wanted: '^1',
    version: '1.0.0',
  })
  expect((await shell.graft(['yank', '@acme/tool@1.1.0', '--undo'])).exit).toBe(0)
  const back = await shell.graft(['update', '@acme/tool', '--json'])
  expect(back.json()).toMatchObject({ locked: true, adapters: [{ version: '1.1.0' }] })
  const strange = await shell.graft(['update', '@acme/none', '--json'])
  expect(strange.json().error.message).toContain('graft.lock does not name @acme/none')
})

it('deprecates and takes it back; removes bytes for good only with --forever', async () => {
  await add('@acme/old', '1.0.0')
  await add('@acme/old', '1.1.0')
  const shell = shellAt()
  const said = await shell.graft(['deprecate', '@acme/old@1.1.0', 'use', '@acme/new'])
  expect(said.stdout).toBe('@acme/old@1.1.0: deprecated (use @acme/new)\n')
  const resolved = await shell.graft(['resolve', '@acme/old@^1'])
  expect(resolved.stdout).toMatch(/passed over +1\.1\.0: is deprecated: use @acme\/new/)
  const only = await shell.graft(['resolve', '@acme/old@1.1.0'])
  expect(only.stdout).toMatch(/state +deprecated \(use @acme\/new\)/)
  await shell.graft(['deprecate', '@acme/old@1.1.0', '--undo'])
  const young = await shell.graft(['resolve', '@acme/old@^1', '--min-release-age', '7d', '--json'])
  expect(young.json().error.message).toMatch(/1\.1\.0 was published at \S+ and is 604800 s old/)
  const rank = ['resolve', '@acme/chat', '--max-rank', '2', '--license', 'Apache-2.0', '--json']
  expect((await shell.graft(rank)).json().error.code).toBe('ERR_OPERATION_UNSUPPORTED')
  const remove = ['tombstone', '@acme/old@1.1.0', '--reason', 'a key leaked']
  expect((await shell.graft(remove)).exit).toBe(2)
  expect((await shell.graft([...remove, '--forever'])).stdout).toContain('removed (a key leaked)')
  const gone = await shell.graft(['pull', `@acme/old@${digests.get('@acme/old@1.1.0')}`])
  expect([gone.exit, gone.stderr]).toEqual([3, expect.stringContaining('a key leaked')])
  for (const args of [
    ['yank', '@acme/old@^1', '--reason', 'x'],
    ['yank', '@acme/old@1.0.0'],
    ['yank', '@acme/old@1.0.0', '--undo', '--reason', 'x'],
    ['deprecate', '@acme/old@1.0.0'],
  ])
    expect((await shell.graft(args)).exit, args.join(' ')).toBe(2)
})

it('notices from the lock alone that the registry was rolled back, and installs nothing', async () => {
  const elsewhere = await openHouse()
  const publishThere = async (version: string) => {
    const what = await adapter({ base: elsewhere.base, name: '@acme/x', version, seed: 3 })
    const request = await publishRequest(what, elsewhere.key)
    await publish(elsewhere.call, elsewhere.token, what, request)
  }
  await publishThere('1.0.0')
  const folder = temporaryFolder()
  cpSync(elsewhere.stateDir, folder.path, {
    recursive: true,
    filter: (path) => !path.includes('.sqlite'),
  })
  const db = new DatabaseSync(join(elsewhere.stateDir, 'registry.sqlite'))
  db.exec(`VACUUM INTO '${join(folder.path, 'registry.sqlite')}'`)
  db.close()
  await publishThere('1.1.0')
  let { app } = elsewhere.registry
  const there = await listen({ fetch: async (request: Request) => app.fetch(request) })
  const shell = shellAt({ GRAFT_REGISTRY: there.url, GRAFT_TOKEN: '' })
  await shell.graft(['install', '@acme/x@1.0.0', '-q'])
  const { log } = parseLock(Buffer.from(shell.lock())).registries['@acme']!
  expect(log?.checkpoint).toMatch(/^registry\.test\n\d+\n/)
  const kept = JSON.parse(readFileSync(shell.path('adapters/@acme/x/version.json'), 'utf8'))
  expect(kept.log.hashes.length).toBeGreaterThan(0)
  const again = async () => {
    rmSync(shell.path('adapters'), { recursive: true, force: true })
    return shell.graft(['install', '--frozen', '--json'])
  }
  const text = shell.lock()
  expect((await again()).exit).toBe(0)
  // A backup from before 1.1.0 is put back, and says nothing of it.
  const older = await createNodeRegistry({ stateDir: folder.path, issuerName: ISSUER })
  app = older.app
  const rolled = await again()
  expect([rolled.exit, rolled.json().error.code]).toEqual([5, 'ERR_DIGEST_MISMATCH'])
  expect(rolled.json().error.message).toContain('was rolled back')
  expect(existsSync(shell.path('adapters'))).toBe(false)
  expect(shell.lock()).toBe(text)
  await there.close()
  await older.close()
  await elsewhere.close()
  folder.clean()
})

it('takes a scope from the one registry that the lock binds it to, and sends the token nowhere else', async () => {
  const elsewhere = await openHouse()
  const seen: (string | null)[] = []
  const { app } = elsewhere.registry
  const there = await listen({
    fetch: async (request: Request) => {
      seen.push(request.headers.get('authorization'))
      return app.fetch(request)
    },
  })
  const what = await adapter({ base: elsewhere.base, name: '@acme/sql', version: '1.9.0' })
  const request = await publishRequest(what, elsewhere.key)
  await publish(elsewhere.call, elsewhere.token, what, request)
  const shell = shellAt()
  await shell.graft(['install', '@acme/sql@^1', '-q'])
  const text = shell.lock()
  const other = ['--registry', there.url]
  const refused = await shell.graft(['install', '@acme/sql@>=1', ...other, '--json'])
  expect([refused.exit, refused.json().error.code]).toEqual([2, 'ERR_REQUEST_INVALID'])
  expect(refused.json().error.message).toContain(`graft.lock binds @acme to ${server.url}`)
  expect(shell.lock()).toBe(text)
  expect(seen).toEqual([])
  const bound = shellAt()
  await bound.graft(['install', '@acme/sql@^1', '-q', ...other], { extra: { GRAFT_TOKEN: '' } })
  rmSync(bound.path('adapters'), { recursive: true })
  seen.length = 0
  const back = await bound.graft(['install', '--frozen', '--json'])
  expect(back.json().adapters).toMatchObject([{ version: '1.9.0', written: true }])
  expect(new Set(seen)).toEqual(new Set([null]))
  await there.close()
  await elsewhere.close()
})

it.each([
  ['{', 'ERR_JSON_INVALID', /graft\.lock/],
  ['<<<<<<< ours', 'ERR_JSON_INVALID', /graft\.lock/],
  [
    '{"lockVersion":2,"registries":{},"adapters":{}}',
    'ERR_REQUEST_INVALID',
    /lockVersion must be 1/,
  ],
  ['{"lockVersion":1,"registries":{},"adapters":{},"x":1}', 'ERR_REQUEST_INVALID', /"x"/],
  [
    '{"lockVersion":1,"registries":{"@a":{"url":"ftp://x"}},"adapters":{}}',
    'ERR_REQUEST_INVALID',
    /registries\["@a"\]\.url must be an http/,
  ],
  [
    '{"lockVersion":1,"registries":{},"adapters":{"@a/b":{"wanted":"*","version":"1.0"}}}',
    'ERR_REQUEST_INVALID',
    /adapters\["@a\/b"\]\.version must be x\.y\.z/,
  ],
  [
    '{"lockVersion":1,"registries":{"@a":{"url":"https://a"}},"adapters":{"@a/../../b":{"wanted":"*","version":"1.0.0","digest":"DIGEST","base":{"name":"b","digest":"DIGEST"}}}}'.replaceAll(
      'DIGEST',
      `sha256:${'0'.repeat(64)}`,
    ),
    'ERR_REQUEST_INVALID',
    /adapters must be by @scope\/name, got "@a\/\.\.\/\.\.\/b"/,
  ],
])('refuses the lock %s by name', (text, code, message) => {
  const parse = () => parseLock(new TextEncoder().encode(text))
  expect(parse).toThrow(expect.objectContaining({ code }))
  expect(parse).toThrow(message)
})

it('keeps a checkpoint of the log, and reads back what it wrote', () => {
  const log = { key: 'registry.test+00000000+AQ==', checkpoint: 'registry.test\n7\nAAAA\n' }
  const lock = {
    registries: { '@b': { url: 'https://b' }, '@a': { url: 'https://a', log } },
    adapters: {},
  }
  const text = formatLock(lock)
  expect(parseLock(new TextEncoder().encode(text))).toEqual(lock)
  expect(formatLock(parseLock(new TextEncoder().encode(text)))).toBe(text)
  expect(text.indexOf('@a')).toBeLessThan(text.indexOf('@b'))
})

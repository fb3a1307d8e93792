import { spawn } from 'node:child_process'
import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { listen } from '../../edge/helpers/listen.ts'
import { openHouse } from '../../registry/fixtures.ts'
import { createBrowser } from '../../registry/sign-in.ts'
import { createShell, MAIN } from './helpers.ts'

let house: Awaited<ReturnType<typeof openHouse>>
let server: Awaited<ReturnType<typeof listen>>
let shell: ReturnType<typeof createShell>
beforeAll(async () => {
  house = await openHouse({ issuerName: 'graft' })
  server = await listen(house.registry.app)
  shell = createShell({ GRAFT_REGISTRY: server.url })
})
afterAll(async () => {
  shell.clean()
  await server.close()
  await house.close()
})

/** Runs `graft login` and does in a browser what it says. */
async function login(decision: 'allow' | 'deny') {
  const child = spawn(process.execPath, [MAIN, 'login', '--json'], {
    cwd: shell.folder,
    env: {
      PATH: process.env['PATH']!,
      GRAFT_HOME: join(shell.folder, 'home'),
      GRAFT_REGISTRY: server.url,
    },
  })
  const closed = new Promise<number | null>((resolve) => child.on('close', resolve))
  let [stdout, said] = ['', '']
  child.stdout.on('data', (data) => (stdout += data))
  const address = await new Promise<string>((resolve) =>
    child.stderr.on('data', (data) => {
      said += data
      const found = /Open (\S+)/.exec(said)?.[1]
      if (found) resolve(found)
    }),
  )
  expect(address.startsWith(`${server.url}/device?user_code=`)).toBe(true)
  const browser = createBrowser({
    request: ((path: string, init: RequestInit) => fetch(server.url + path, init)) as never,
  })
  await browser.signIn(house.token)
  const shown = await browser.open(address.slice(server.url.length))
  expect(shown.html).toContain('Allow this device?')
  await browser.open('/device', { ...shown.hidden, decision, org: 'acme' })
  return { exit: await closed, said, result: JSON.parse(stdout) }
}

it('logs in by a browser, keeps the token 0600, and revokes it on logging out', async () => {
  const { exit, said, result } = await login('allow')
  expect([exit, result]).toEqual([
    0,
    expect.objectContaining({
      sub: 'user:ada',
      tenant: 'acme',
      scopes: ['infer', 'read', 'publish'],
    }),
  ])
  const file = join(shell.folder, 'home/config.json')
  expect(statSync(file).mode & 0o777).toBe(0o600)
  const { token } = JSON.parse(readFileSync(file, 'utf8'))
  expect(said).not.toContain(token)
  expect((await shell.graft(['whoami', '--json'])).json()).toMatchObject({ sub: 'user:ada' })

  const out = await shell.graft(['logout', '--json'])
  expect([out.exit, out.json().revoked]).toEqual([0, true])
  expect(JSON.parse(readFileSync(file, 'utf8')).token).toBeUndefined()
  const dead = await house.call('GET', '/v1/whoami', { token })
  expect(dead.body.error.code).toBe('ERR_UNAUTHENTICATED')
  const nobody = await shell.graft(['logout'])
  expect([nobody.exit, nobody.stderr]).toEqual([4, expect.stringContaining('graft login')])
}, 90_000)

it('lists tokens, rotates the kept one in its place, and revokes one', async () => {
  await shell.graft(['login', '--token-stdin'], {
    stdin: (await house.tokenWith(['read', 'infer'])).token,
  })
  const { tokens } = (await shell.graft(['tokens', 'list', '--json'])).json()
  const kept = tokens.find((t: { name: string }) => t.name === 'test')
  expect(kept).toMatchObject({
    user: 'ada',
    scopes: ['read', 'infer'],
    lastUsedAt: expect.any(String),
  })
  const rotated = await shell.graft(['tokens', 'rotate', kept.jti, '--json'])
  expect(rotated.json()).toEqual({ jti: expect.any(String), expiresAt: kept.expiresAt })
  const table = (await shell.graft(['tokens', 'list'])).stdout
  expect(table).toMatch(new RegExp(`${kept.jti}.*revoked`))
  const gone = await shell.graft(['tokens', 'revoke', rotated.json().jti, '--json'])
  expect(gone.json()).toEqual({ jti: rotated.json().jti, revoked: true })
  expect((await shell.graft(['whoami'])).exit).toBe(4)
}, 90_000)

it('only forgets a token that it was given, since others may hold it too', async () => {
  await shell.graft(['login', '--token-stdin'], { stdin: house.token })
  expect((await shell.graft(['logout', '--json'])).json().revoked).toBe(false)
  expect((await house.call('GET', '/v1/whoami', { token: house.token })).status).toBe(200)
})

it('ends with the reason when the person says no', async () => {
  const { exit, result } = await login('deny')
  expect([exit, result.error.code]).toEqual([4, 'ERR_FORBIDDEN'])
}, 90_000)

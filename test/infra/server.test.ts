import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { createLedgerClient } from '@graft/sdk/client/ledger-client.ts'
import { createRegistryClient } from '@graft/sdk/client/registry-client.ts'
import { afterEach, describe, expect, it } from 'vitest'

const MAIN = join(import.meta.dirname, '../../infra/server.ts')
const stateDir = mkdtempSync(join(tmpdir(), 'graft-server-'))
const children: ChildProcess[] = []
afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL')
  rmSync(stateDir, { recursive: true, force: true })
})

interface Line {
  setupCode?: string
  ready?: boolean
  registry: string
  edge: string
}

/** Starts the server on free ports; its lines on stdout up to the one that says ready. */
async function start(env: Record<string, string> = {}) {
  const child = spawn(process.execPath, [MAIN], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      PATH: process.env['PATH'],
      GRAFT_STATE: stateDir,
      GRAFT_EDGE_PORT: '0',
      GRAFT_REGISTRY_PORT: '0',
      ...env,
    },
  })
  children.push(child)
  let stderr = ''
  child.stderr.on('data', (chunk) => {
    stderr += chunk
  })
  const ended = once(child, 'exit') as Promise<[number | null]>
  const lines: Line[] = []
  for await (const text of createInterface({ input: child.stdout })) {
    lines.push(JSON.parse(text))
    if (lines.at(-1)!.ready) break
  }
  return { child, lines, ready: lines.at(-1), ended, stderr: () => stderr }
}

describe('the server of one machine', () => {
  it('is set up by the code it prints once, keeps its state and stops at SIGTERM', async () => {
    const first = await start()
    const [{ setupCode }] = first.lines as [Line]
    const setup = { code: setupCode!, user: 'ada', org: 'operator' }
    const registry = createRegistryClient({ url: first.ready!.registry })
    const { token } = await registry.setup(setup)
    const ledger = createLedgerClient({ url: first.ready!.edge, token })
    await ledger.topUp({ tenant: 'operator', amount: 500, id: 'one', memo: '' })
    for (const file of ['fleet-key.json', 'setup-code'])
      expect(statSync(join(stateDir, file)).mode & 0o077).toBe(0)
    first.child.kill('SIGTERM')
    expect(await first.ended).toEqual([0, null])
    await expect(fetch(`${first.ready!.edge}/healthz`)).rejects.toThrow('fetch failed')

    const second = await start()
    expect(second.lines.map((line) => line.setupCode)).toEqual([undefined])
    const again = createLedgerClient({ url: second.ready!.edge, token })
    expect(await again.balance()).toMatchObject({ available: 500, held: 0 })
    const port = new URL(second.ready!.edge).port
    const third = await start({ GRAFT_EDGE_PORT: port, GRAFT_STATE: join(stateDir, 'other') })
    expect(await third.ended).toEqual([8, null])
    expect(third.stderr()).toContain(`127.0.0.1:${port} is taken`)
    expect(third.stderr()).toContain('set GRAFT_EDGE_PORT to another port (ERR_PORT_TAKEN)')
  }, 120_000)

  it('refuses a witness of its log that is no key', async () => {
    const { ended, stderr } = await start({ GRAFT_WITNESSES: 'witness.example' })
    expect((await ended)[0]).toBe(5)
    expect(stderr()).toContain('ERR_KEY_UNKNOWN')
  })

  it('refuses a setting it cannot read', async () => {
    const server = await start({ GRAFT_EDGE_PORT: 'high' })
    expect(await server.ended).toEqual([2, null])
    expect(server.stderr()).toContain(
      'GRAFT_EDGE_PORT must be a whole number up to 65535, got "high"',
    )
    const bucketless = await start({ GRAFT_S3_ENDPOINT: 'https://s3.test' })
    expect(await bucketless.ended).toEqual([2, null])
    expect(bucketless.stderr()).toContain("GRAFT_S3_BUCKET must be a bucket's name")
  })
})

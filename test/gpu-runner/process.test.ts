import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  exportSigningKey,
  generateSigningKey,
  type SigningKey,
  signJwt,
  verifyJwt,
} from '@graft/sdk/format/jws.ts'
import type { Heartbeat } from '@graft/sdk/protocol/runner-api.ts'
import type { FleetClaims } from '@graft/sdk/protocol/tokens.ts'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { eventually } from './helpers/eventually.ts'
import { STORY, storyAbsent } from './helpers/story.ts'

const MAIN = join(import.meta.dirname, '../../gpu-runner/main.ts')

interface Exited {
  code: number | null
  stdout: string
  stderr: string
}

const start = (args: string[]) => {
  const child = spawn(process.execPath, [MAIN, ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
  const output = { stdout: '', stderr: '' }
  child.stdout.on('data', (data) => (output.stdout += data))
  child.stderr.on('data', (data) => (output.stderr += data))
  const exited = once(child, 'exit').then(([code]): Exited => ({ code, ...output }))
  return { child, output, exited }
}

const row = JSON.parse(readFileSync(join(import.meta.dirname, 'fixtures/tokenizers.json'), 'utf8'))[
  'tinystories-656k'
].rows[0] as { text: string; ids: number[] }

describe('main.ts', () => {
  it('refuses flags that it does not know, with the usage and exit code 2, without a stack', async () => {
    const { code, stderr } = await start(['--frobnicate']).exited
    expect(code).toBe(2)
    expect(stderr).toMatch(/frobnicate/)
    expect(stderr).toMatch(/--checkpoint <folder>/)
    expect(stderr).not.toMatch(/\n\s+at /)
  })

  it('names the flag that is missing', async () => {
    const { code, stderr } = await start(['--registry', 'http://localhost:1']).exited
    expect(code).toBe(2)
    expect(stderr).toMatch(/--fleet-key|--checkpoint/)
  })
})

describe.skipIf(storyAbsent)('a runner process', () => {
  let folder: string
  let fleetKey: SigningKey
  let edge: Server
  let edgeUrl: string
  const beats: Heartbeat[] = []
  const refused: string[] = []
  const children: ChildProcess[] = []
  const flags = (change: Record<string, string> = {}) =>
    Object.entries({
      checkpoint: STORY,
      registry: 'http://127.0.0.1:1',
      edge: edgeUrl,
      port: '0',
      state: join(folder, 'state'),
      id: 'runner-1',
      'fleet-key': join(folder, 'fleet.json'),
      ...change,
    }).flatMap(([name, value]) => [`--${name}`, value])

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'graft-main-'))
    fleetKey = await generateSigningKey()
    await writeFile(join(folder, 'fleet.json'), JSON.stringify(await exportSigningKey(fleetKey)))
    edge = createServer(async (request, response) => {
      let body = ''
      for await (const chunk of request) body += chunk
      const token = request.headers.authorization?.slice('Bearer '.length) ?? ''
      const claims = await verifyJwt<FleetClaims>(token, 'graft-fleet+jwt', [fleetKey.publicJwk], {
        now: new Date(),
        audience: 'edge',
      }).catch(() => null)
      if (request.url !== '/v1/fleet/heartbeat' || claims?.role !== 'runner') refused.push(body)
      else beats.push(JSON.parse(body))
      response.end('{"ttl":10}')
    })
    edge.listen(0, '127.0.0.1')
    await once(edge, 'listening')
    edgeUrl = `http://127.0.0.1:${(edge.address() as AddressInfo).port}`
  })
  afterAll(async () => {
    for (const child of children) child.kill('SIGKILL')
    edge.close()
    await rm(folder, { recursive: true, force: true })
  })

  const ready = async (change: Record<string, string> = {}) => {
    const run = start(flags(change))
    children.push(run.child)
    await eventually(() => run.output.stdout.includes('\n') || run.child.exitCode !== null).toBe(
      true,
    )
    if (run.child.exitCode !== null) throw new Error(run.output.stderr)
    return { ...run, url: JSON.parse(run.output.stdout).url as string }
  }

  it.skipIf(process.platform !== 'linux')(
    'gives freed memory back to the system: it starts itself again, under its pid, with steady malloc settings',
    async () => {
      const { child } = await ready({ id: 'runner-steady', state: join(folder, 'steady') })
      const environ = readFileSync(`/proc/${child.pid}/environ`, 'utf8').split('\0')
      expect(environ).toContain('MALLOC_MMAP_THRESHOLD_=262144')
      expect(readFileSync(`/proc/${child.pid}/cmdline`, 'utf8')).toContain('--max-semi-space-size')
      child.kill('SIGTERM')
      expect(await once(child, 'exit')).toEqual([0, null])
    },
  )

  it('says when it is ready, beats to the edge, drains on SIGTERM and keeps its key', async () => {
    const first = await ready()
    expect(first.output.stdout).toBe(`${JSON.stringify({ ready: true, url: first.url })}\n`)
    expect((await fetch(`${first.url}/healthz`)).status).toBe(200)
    await eventually(() => beats.length).toBeGreaterThan(1)
    const iat = Math.floor(Date.now() / 1000)
    const claims = { iss: 'edge', aud: 'runner-1', role: 'edge', iat, exp: iat + 60 }
    const token = await signJwt(claims, 'graft-fleet+jwt', fleetKey)
    const count = await fetch(`${first.url}/v1/count`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}` },
      body: JSON.stringify({ prompt: { kind: 'text', text: row.text } }),
    })
    expect(await count.json()).toEqual({ tokens: row.ids.length })
    first.child.kill('SIGTERM')
    expect(await first.exited).toMatchObject({ code: 0 })
    expect(beats.at(-1)).toMatchObject({
      url: first.url,
      draining: true,
      status: { id: 'runner-1' },
    })
    expect(refused).toEqual([])
    const key = beats.at(-1)!.status.key
    const seen = beats.length
    const second = await ready()
    await eventually(() => beats.length).toBeGreaterThan(seen)
    expect(beats.at(-1)!.status.key).toEqual(key)
    const { port } = new URL(second.url)
    const { code, stderr } = await start(flags({ port, state: join(folder, 'other') })).exited
    expect(code).toBe(8)
    expect(stderr).toMatch(/ERR_PORT_TAKEN: port \d+ must be free/)
    second.child.kill('SIGTERM')
    await second.exited
  })
})

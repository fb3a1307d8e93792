import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { cp, mkdtemp, rm, truncate, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'

const root = join(import.meta.dirname, '../..')
const samples = join(root, 'infra/samples')
const absent = !existsSync(join(samples, 'adapters'))
if (absent) console.warn('skipped: infra/samples/adapters is absent')

interface Ended {
  code: number | null
  stdout: string
  stderr: string
}

function start(args: string[], until?: (output: string) => boolean): Promise<Ended> {
  const child = spawn(process.execPath, ['infra/dev.ts', ...args], { cwd: root })
  let stdout = ''
  let stderr = ''
  let told = false
  // One Ctrl-C: a second one would not wait for the drain.
  const look = () => {
    if (told || !until?.(stdout + stderr)) return
    told = true
    child.kill('SIGINT')
  }
  child.stdout.on('data', (data) => {
    stdout += data
    look()
  })
  child.stderr.on('data', (data) => {
    stderr += data
    look()
  })
  return new Promise((resolve) => child.on('close', (code) => resolve({ code, stdout, stderr })))
}

/** Three neighbouring ports that nobody uses right now. */
async function freePorts(): Promise<number> {
  for (;;) {
    const first = 20_000 + Math.floor(Math.random() * 20_000)
    const free = await Promise.all([0, 1, 2].map((offset) => isFree(first + offset)))
    if (free.every(Boolean)) return first
  }
}

function isFree(port: number): Promise<boolean> {
  const server = createServer()
  return new Promise((resolve) => {
    server.once('error', () => resolve(false))
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)))
  })
}

describe.skipIf(absent)('npm start', () => {
  let folder: string
  let port: string
  const state = () => join(folder, 'state')

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'graft-start-'))
    port = String(await freePorts())
  })
  afterAll(() => rm(folder, { recursive: true, force: true }))

  it('publishes the samples, answers three tenants in one batch and proves it', async () => {
    const { code, stdout, stderr } = await start(['--once', '--state', state(), '--port', port])
    expect(stderr).toContain('samples published now, 0 were there')
    expect(stdout).not.toContain('PROBLEM')
    expect(stdout).not.toContain('WRONG')
    const [, right, all] = /(\d+) of (\d+) answers exactly right/.exec(stdout) ?? []
    expect(Number(all)).toBeGreaterThanOrEqual(8)
    expect(right).toBe(all)
    const [, step] = /Engine step \d+: .*\n((?: {2}\S.*\n)+)/.exec(stdout) ?? []
    for (const tenant of ['acme', 'globex', 'initech'])
      expect(step).toMatch(new RegExp(`${tenant} +sha256:`))
    expect(step).toContain('base alone')
    expect(code).toBe(0)
  }, 120_000)

  it('republishes nothing on a second start and keeps every balance', async () => {
    const { code, stdout, stderr } = await start(['--once', '--state', state(), '--port', port])
    expect(stderr).toContain('0 samples published now')
    expect(stdout).toContain('3 books balance, 0 problems')
    expect(code).toBe(0)
  }, 120_000)

  it('keeps serving after the demo, and Ctrl-C drains and stops it', async () => {
    const { code, stdout, stderr } = await start(['--state', state(), '--port', port], (output) =>
      output.includes('Ctrl-C drains and stops.'),
    )
    expect(stdout).toContain(`http://127.0.0.1:${port}/v1`)
    expect(stderr).toContain('draining')
    expect(stderr).toContain('stopped')
    expect(code).toBe(0)
    expect(await isFree(Number(port))).toBe(true)
    expect(await isFree(Number(port) + 2)).toBe(true)
  }, 120_000)

  it('names the port that is taken and leaves with exit code 8', async () => {
    const server = createServer()
    await new Promise<void>((resolve) => server.listen(Number(port), '127.0.0.1', resolve))
    const { code, stderr } = await start([
      '--once',
      '--state',
      join(folder, 'taken'),
      '--port',
      port,
    ])
    server.close()
    expect(stderr).toContain(`port ${port} for the edge is taken`)
    expect(stderr).toContain('ERR_PORT_TAKEN')
    expect(code).toBe(8)
  }, 60_000)

  it('names a damaged weight file and leaves with exit code 5', async () => {
    const copy = join(folder, 'samples')
    await cp(join(samples, 'base'), join(copy, 'base'), { recursive: true })
    const weights = join(copy, 'base/graft-tiny/model.safetensors')
    await truncate(weights, 1_000_000)
    const args = ['--once', '--state', join(folder, 'damaged'), '--samples', copy, '--port', port]
    const { code, stderr } = await start(args)
    expect(stderr).toContain('model.safetensors is damaged')
    expect(stderr).toContain('ERR_CHECKPOINT_INVALID')
    expect(stderr).not.toMatch(/^\s+at /m)
    expect(code).toBe(5)
  }, 60_000)

  it('refuses secrets that are no JSON with exit code 5 and the way out', async () => {
    const broken = join(folder, 'broken')
    await cp(state(), broken, { recursive: true })
    await writeFile(join(broken, 'secrets.json'), '{"setupCode":')
    const { code, stderr } = await start(['--once', '--state', broken, '--port', port])
    expect(stderr).toContain('ERR_STATE_DAMAGED')
    expect(stderr).toContain('remove the folder')
    expect(code).toBe(5)
  }, 60_000)

  it('refuses an option it does not know with exit code 2', async () => {
    const { code, stderr } = await start(['--onec'])
    expect(stderr).toContain('"--onec"')
    expect(code).toBe(2)
  })
})

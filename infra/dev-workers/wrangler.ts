import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { GraftError } from '@graft/sdk/format/errors.ts'

const ROOT = join(import.meta.dirname, '../..')
/** Run by Node itself. */
export const WRANGLER = join(ROOT, 'node_modules/wrangler/bin/wrangler.js')
/** Milliseconds; bundling and workerd's start take a few seconds, on a loaded machine many. */
const START_MS = 120_000
const STOP_MS = 10_000

/** Nothing of a local run leaves the machine: no banner's look for updates, no metrics, no cf.json. */
export const OFFLINE = {
  WRANGLER_HIDE_BANNER: 'true',
  WRANGLER_SEND_METRICS: 'false',
  WRANGLER_SEND_ERROR_REPORTS: 'false',
  CLOUDFLARE_CF_FETCH_ENABLED: 'false',
  // Never asks a question: this is no terminal.
  CI: 'true',
}

export interface WorkerProcess {
  url: string
  /** Settles when wrangler ends; the exit code, or null after a signal. */
  ended: Promise<number | null>
  stop(): Promise<void>
}

function start(args: string[], stateDir: string, log: (line: string) => void): ChildProcess {
  if (!existsSync(WRANGLER))
    throw new GraftError(
      'ERR_NOT_INSTALLED',
      'wrangler is not installed: run `npm ci`, with its development dependencies',
    )
  const child = spawn(process.execPath, [WRANGLER, ...args], {
    cwd: ROOT,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...OFFLINE, WRANGLER_LOG_PATH: resolve(stateDir, 'logs') },
    // Its own process group: Ctrl-C reaches only us, and we stop the parts in order.
    detached: true,
  })
  for (const stream of [child.stdout!, child.stderr!])
    createInterface({ input: stream }).on('line', (line) => {
      if (line.trim()) log(line)
    })
  return child
}

const exitOf = (child: ChildProcess): Promise<number | null> =>
  new Promise((resolve) => child.once('exit', resolve))

const persistTo = (stateDir: string): string[] => ['--persist-to', resolve(stateDir, 'wrangler')]

/** Applies the registry's migrations to the local D1; those applied before are skipped. */
export async function applyMigrations(stateDir: string): Promise<void> {
  const lines: string[] = []
  const args = ['d1', 'migrations', 'apply', 'DB', '--local', ...persistTo(stateDir)]
  const code = await exitOf(start(args, stateDir, (line) => lines.push(line)))
  if (code !== 0)
    throw new GraftError(
      'ERR_STATE_DAMAGED',
      `the migrations of the local D1 below ${stateDir} failed: ${lines.slice(-5).join(' | ')}`,
    )
}

export interface WorkerFlags {
  stateDir: string
  port: number
  /** File of secrets. */
  envFile: string
  /** What this run sets apart from wrangler.toml. */
  vars: Record<string, string>
}

/** Starts `wrangler dev --local` and returns once the Worker answers. */
export async function startWorker(
  { stateDir, port, envFile, vars }: WorkerFlags,
  log: (line: string) => void,
): Promise<WorkerProcess> {
  const args = ['dev', '--local', '--ip', '127.0.0.1', '--port', String(port)]
  args.push('--inspector-port', '0', '--show-interactive-dev-session', 'false')
  args.push('--log-level', 'warn', '--env-file', resolve(envFile), ...persistTo(stateDir))
  for (const [name, value] of Object.entries(vars)) args.push('--var', `${name}:${value}`)
  const tail: string[] = []
  const child = start(args, stateDir, (line) => {
    tail.push(line)
    if (tail.length > 20) tail.shift()
    log(line)
  })
  const ended = exitOf(child)
  const kill = (signal: NodeJS.Signals) => {
    // The group, because workerd is wrangler's child.
    if (child.pid === undefined) return
    try {
      process.kill(-child.pid, signal)
    } catch {
      // gone already
    }
  }
  const killNow = () => kill('SIGKILL')
  process.once('exit', killNow)
  const stop = async () => {
    kill('SIGTERM')
    const force = setTimeout(killNow, STOP_MS)
    await ended
    clearTimeout(force)
    killNow()
    process.off('exit', killNow)
  }
  const url = `http://127.0.0.1:${port}`
  let over = false
  void ended.then(() => {
    over = true
  })
  const deadline = performance.now() + START_MS
  while (!(await isHealthy(url))) {
    if (over || performance.now() > deadline) {
      await stop()
      const said = tail.slice(-5).join(' | ') || 'it said nothing'
      throw new GraftError('ERR_UNREACHABLE', `the Worker did not start: ${said}`)
    }
    await sleep(200)
  }
  return { url, ended, stop }
}

const isHealthy = (url: string): Promise<boolean> =>
  fetch(`${url}/healthz`, { signal: AbortSignal.timeout(5_000) }).then(
    (response) => response.ok,
    () => false,
  )

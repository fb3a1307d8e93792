import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { ERRORS, type ErrorCode, GraftError } from '@graft/sdk/format/errors.ts'

export interface RunnerFlags {
  checkpoint: string
  registry: string
  edge: string
  port: number
  state: string
  id: string
  /** File holding the fleet key's private JWK. */
  fleetKey: string
  precision: string
}

export interface RunnerProcess {
  url: string
  /** Settles when the process ends; the exit code, or null after a signal. */
  ended: Promise<number | null>
  /** SIGTERM: the runner drains, then exits. */
  stop(): Promise<void>
}

const MAIN = join(import.meta.dirname, '../../gpu-runner/main.ts')

/** Starts a runner as a process of its own: its engine's memory and crashes are not the edge's. */
export async function startRunner(
  flags: RunnerFlags,
  log: (line: string) => void,
): Promise<RunnerProcess> {
  const args = Object.entries({
    checkpoint: flags.checkpoint,
    registry: flags.registry,
    edge: flags.edge,
    port: String(flags.port),
    state: flags.state,
    id: flags.id,
    'fleet-key': flags.fleetKey,
    precision: flags.precision,
  }).flatMap(([name, value]) => [`--${name}`, value])
  // Its own process group: Ctrl-C reaches only us, and we drain the runner in order.
  const child = spawn(process.execPath, [MAIN, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  })
  const ended = new Promise<number | null>((resolve) => child.once('exit', resolve))
  const tail: string[] = []
  createInterface({ input: child.stderr }).on('line', (line) => {
    tail.push(line)
    if (tail.length > 20) tail.shift()
    log(line)
  })
  const stop = async () => {
    if (child.exitCode === null) child.kill('SIGTERM')
    const force = setTimeout(() => child.kill('SIGKILL'), 10_000)
    await ended
    clearTimeout(force)
  }
  // An orphan would keep the port: take the runner along however we end.
  process.once('exit', () => child.kill('SIGKILL'))

  const ready = new Promise<string>((resolve) => {
    createInterface({ input: child.stdout }).on('line', (line) => {
      const url = readyUrl(line)
      if (url) resolve(url)
    })
  })
  const url = await Promise.race([ready, ended.then(() => null)])
  if (url === null) throw startFailure(tail)
  return { url, ended, stop }
}

/** The runner's last words are `ERR_CODE: message`: the code goes on, so that the exit code does too. */
function startFailure(tail: string[]): GraftError {
  for (const line of tail.toReversed()) {
    const [, code, message] = /^(ERR_[A-Z_]+): (.*)$/.exec(line) ?? []
    if (code && Object.hasOwn(ERRORS, code))
      return new GraftError(code as ErrorCode, `the runner did not start: ${message}`)
  }
  const last = tail.at(-1) ?? 'it said nothing'
  return new GraftError('ERR_RUNNER_FAILED', `the runner did not start: ${last}`)
}

function readyUrl(line: string): string | null {
  try {
    const message = JSON.parse(line) as { ready?: boolean; url?: string }
    return message.ready ? (message.url ?? null) : null
  } catch {
    return null
  }
}

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { steadyMemory } from '@graft/runner/steady-memory.ts'
import type { MemoryReport } from './report-memory.ts'

export interface SoakedRunner {
  url: string
  memory(): Promise<MemoryReport>
  /** Settles with a message when the process ends by itself. */
  died: Promise<never>
  stop(): Promise<void>
}

const MAIN = join(import.meta.dirname, '../../../gpu-runner/main.ts')
const REPORTER = join(import.meta.dirname, 'report-memory.ts')

/** The runner's own program in a process of its own, asked for its memory over the channel to its parent. */
export async function startSoakedRunner(
  flags: Record<string, string>,
  log: (line: string) => void,
): Promise<SoakedRunner> {
  const args = Object.entries(flags).flatMap(([name, value]) => [`--${name}`, value])
  // With a channel to its parent the program cannot start itself again: it is given here what it would take.
  const { env, execArgv } = steadyMemory(process.env)
  const child = spawn(process.execPath, [...execArgv, '--import', REPORTER, MAIN, ...args], {
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    env,
  })
  process.once('exit', () => child.kill('SIGKILL'))
  createInterface({ input: child.stderr! }).on('line', log)
  let stopping = false
  const ended = once(child, 'exit')
  const died = ended.then(([code]): never => {
    if (stopping) return new Promise<never>(() => {}) as never
    throw new Error(`the runner ended by itself with exit code ${code}`)
  })
  died.catch(() => {})
  const url = await Promise.race([readyUrl(child), died])
  return {
    url,
    died,
    async memory() {
      const answer = once(child, 'message')
      child.send('memory')
      const [report] = await Promise.race([answer, died])
      return report as MemoryReport
    },
    async stop() {
      stopping = true
      child.kill('SIGTERM')
      await ended
    },
  }
}

const readyUrl = (child: ChildProcess): Promise<string> =>
  new Promise((resolve) => {
    createInterface({ input: child.stdout! }).on('line', (line) => {
      const { ready, url } = JSON.parse(line) as { ready?: boolean; url: string }
      if (ready) resolve(url)
    })
  })

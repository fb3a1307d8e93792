import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { SETUP_CODE } from '../registry/fixtures.ts'
import type { Answer, Command } from './killable-registry.ts'

const PROGRAM = join(import.meta.dirname, 'killable-registry.ts')

/** A running registry that can be told when to die. */
export interface RegistryProcess {
  url: string
  /** Null when it died instead of answering. */
  tell(command: Command): Promise<Answer | null>
  /** SIGKILL now. */
  kill(): void
  /** Resolves when the process is gone. */
  ended: Promise<unknown>
}

export async function startRegistry(stateDir: string): Promise<RegistryProcess> {
  const child: ChildProcess = fork(PROGRAM, [stateDir, SETUP_CODE], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  })
  const ended = once(child, 'exit')
  const answer = async (): Promise<Answer | null> =>
    Promise.race([
      once(child, 'message').then(([message]) => message as Answer),
      ended.then(() => null),
    ])
  const ready = await answer()
  if (ready === null || !('url' in ready)) throw new Error('the registry did not start')
  return {
    url: ready.url,
    async tell(command) {
      const answered = answer()
      child.send(command, () => {
        // A channel that closed is told by the process's end.
      })
      return answered
    },
    kill: () => void child.kill('SIGKILL'),
    ended,
  }
}

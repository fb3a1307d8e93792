import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

const PROGRAM = join(import.meta.dirname, 'registry-process.ts')

/** A registry in a process of its own, which ends with `stack`. */
export async function startRegistry(
  stack: AsyncDisposableStack,
  folder: string,
): Promise<{ url: string; setupCode: string; pid: number }> {
  const setupCode = crypto.randomUUID()
  const child = spawn(process.execPath, [PROGRAM, folder, setupCode], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const ended = once(child, 'exit')
  stack.defer(async () => {
    child.stdin.end()
    await ended
  })
  const [line] = await Promise.race([
    once(createInterface(child.stdout), 'line'),
    ended.then(([status]): never => {
      throw new Error(`the registry ended with ${status}`)
    }),
  ])
  return { url: String(line), setupCode, pid: child.pid! }
}

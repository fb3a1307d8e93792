/**
 * The registry on Node in a process of its own that ends itself by SIGKILL at a step it is told: argv[2] is its folder,
 * argv[3] the setup code. A step is a change of the catalogue (a COMMIT) or of the blob store, and the end comes before it
 * or after it. The stores are the real ones; only the moment of death is chosen.
 */
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { DEFAULT_LIMITS } from '@graft/registry/deps.ts'
import { createNodeRegistry } from '@graft/registry/node/create-node-registry.ts'
import { openFileBlobs } from '@graft/registry/node/file-blobs.ts'
import type { BlobStore } from '@graft/registry/stores/blob-store.ts'
import { listen } from '../../infra/listen.ts'
import { ISSUER } from '../registry/fixtures.ts'

/** What the parent says. */
export type Command =
  | { what: 'kill'; at: number; after: boolean }
  /** How many steps were taken since the last command. */
  | { what: 'count' }
  /** Sweep as if it were so many milliseconds later. */
  | { what: 'sweep'; later: number }

/** What it answers. */
export type Answer = { url: string } | { steps: number } | { swept: number } | { armed: true }

/** Bytes: the small adapters of the tests come in several parts. */
const PART_BYTES = 300
const CHANGES = ['stage', 'putPart', 'joinParts', 'promote', 'discard', 'delete']

const kill = { at: -1, after: false, steps: 0 }
/** @returns what to do after the step */
function step(): () => void {
  const hit = kill.steps++ === kill.at
  if (hit && !kill.after) process.kill(process.pid, 'SIGKILL')
  return () => {
    if (hit) process.kill(process.pid, 'SIGKILL')
  }
}

const { exec } = DatabaseSync.prototype
DatabaseSync.prototype.exec = function (text: string) {
  if (text !== 'COMMIT') return exec.call(this, text)
  const done = step()
  exec.call(this, text)
  done()
}

const killable = (blobs: BlobStore): BlobStore =>
  new Proxy(blobs, {
    get(target, name) {
      const method = Reflect.get(target, name)
      if (!CHANGES.includes(String(name))) return method
      return async (...args: unknown[]) => {
        const done = step()
        const result = await (method as (...all: unknown[]) => unknown).apply(target, args)
        done()
        return result
      }
    },
  })

const [, , stateDir, setupCode] = process.argv
if (!stateDir || !setupCode) throw new Error('usage: killable-registry.ts <folder> <setup code>')
let later = 0
const registry = await createNodeRegistry({
  stateDir,
  issuerName: ISSUER,
  setupCode,
  blobs: killable(await openFileBlobs(join(stateDir, 'blobs'))),
  limits: { ...DEFAULT_LIMITS, part: PART_BYTES },
  clock: () => new Date(Date.now() + later),
})
const server = await listen(registry.app, { port: 0, what: 'a port', advice: 'free one' })
const answer = (message: Answer) => process.send!(message)

process.on('message', async (message) => {
  const command = message as Command
  if (command.what === 'count') answer({ steps: kill.steps })
  else if (command.what === 'kill') {
    Object.assign(kill, { at: command.at, after: command.after, steps: 0 })
    answer({ armed: true })
  } else {
    later = command.later
    const swept = await registry.sweep()
    later = 0
    answer({ swept })
  }
})
// The parent holds the channel: when it goes, nothing is left running.
process.on('disconnect', () => process.exit())
answer({ url: server.url })

import { Worker } from 'node:worker_threads'
import { GraftError } from '@graft/sdk/format/errors.ts'
import type { Call, Reply, TokenMask, Vocabulary } from './messages.ts'

type WithoutId<T> = T extends { id: number } ? Omit<T, 'id'> : never
export type CallBody = WithoutId<Call>

/** What a call came to: a mask, null where there is none, or the token that was refused. */
export type Outcome = { mask: TokenMask | null } | { refused: number }

export interface GrammarThread {
  /** @throws ERR_RUNNER_FAILED when the thread has ended */
  call(body: CallBody): Promise<Outcome>
  /** Resolves once the library is loaded, or the thread has ended. */
  readonly ready: Promise<void>
  readonly dead: boolean
  end(): Promise<void>
}

export const threadEnded = (cause?: unknown): GraftError =>
  new GraftError('ERR_RUNNER_FAILED', 'the grammar thread ended; send the request again', { cause })

/** Starts the thread; calls may be made at once and wait until it is ready. */
export function startGrammarThread(vocabulary: Vocabulary): GrammarThread {
  const worker = new Worker(new URL('./worker.ts', import.meta.url), { workerData: vocabulary })
  // A runner that does nothing else may end.
  worker.unref()
  const pending = new Map<number, { resolve(o: Outcome): void; reject(e: unknown): void }>()
  let calls = 0
  let dead = false
  let started = (): void => {}
  const ready = new Promise<void>((resolve) => {
    started = resolve
  })
  const die = (cause?: unknown): void => {
    dead = true
    started()
    const error = threadEnded(cause)
    for (const { reject } of pending.values()) reject(error)
    pending.clear()
  }
  worker.on('message', (reply: Reply) => {
    if (reply.kind === 'ready') return started()
    const call = pending.get(reply.id)
    pending.delete(reply.id)
    if (reply.kind === 'done') call?.resolve({ mask: reply.mask })
    else if (reply.kind === 'refused') call?.resolve({ refused: reply.token })
    else call?.reject(threadEnded(reply.message))
  })
  worker.on('error', die)
  worker.on('exit', () => die())
  return {
    call: (body) =>
      new Promise((resolve, reject) => {
        if (dead) return reject(threadEnded())
        const id = ++calls
        pending.set(id, { resolve, reject })
        worker.postMessage({ ...body, id })
      }),
    ready,
    get dead() {
      return dead
    },
    async end() {
      await worker.terminate()
    },
  }
}

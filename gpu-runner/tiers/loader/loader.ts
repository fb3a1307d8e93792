import { Worker } from 'node:worker_threads'
import type { BaseTensor } from '@graft/sdk/format/base-identity.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import type { Job, JobName, Jobs, LoaderOptions, Reply } from './messages.ts'

/** Reads, proves and converts adapters in threads of its own. A job that was begun runs to its end. */
export interface Loader extends AsyncDisposable {
  run<N extends JobName>(name: N, ...input: Jobs[N]['input']): Promise<Jobs[N]['output']>
}

/** Two: a large adapter holds up at most one of them, and small ones pass by the other. */
const THREADS = 2

interface Pending {
  resolve(output: unknown): void
  reject(error: Error): void
}

interface Thread {
  worker: Worker
  pending: Map<number, Pending>
}

export function createLoader(base: readonly BaseTensor[], threads = THREADS): Loader {
  const pool = new Set<Thread>()
  let ids = 0
  let closed = false

  function start(): Thread {
    const workerData: LoaderOptions = { base }
    const worker = new Worker(new URL('./worker.ts', import.meta.url), { workerData })
    const thread: Thread = { worker, pending: new Map() }
    const die = (cause: unknown): void => {
      pool.delete(thread)
      const error = new GraftError('ERR_RUNNER_FAILED', 'a loader thread ended; send it again', {
        cause,
      })
      for (const { reject } of thread.pending.values()) reject(error)
      thread.pending.clear()
    }
    worker.on('message', (reply: Reply) => {
      const job = thread.pending.get(reply.id)
      thread.pending.delete(reply.id)
      if ('output' in reply) return job?.resolve(reply.output)
      const { code, message } = reply.failure
      return job?.reject(code ? new GraftError(code, message) : new Error(message))
    })
    worker.on('error', die)
    worker.on('exit', die)
    // An idle thread keeps no process alive.
    worker.unref()
    pool.add(thread)
    return thread
  }

  /** The one with least to do; another is started while there may be more and none is idle. */
  function choose(): Thread {
    const [least] = [...pool].sort((a, b) => a.pending.size - b.pending.size)
    return least && (least.pending.size === 0 || pool.size >= threads) ? least : start()
  }

  return {
    run: <N extends JobName>(name: N, ...input: Jobs[N]['input']) =>
      new Promise<Jobs[N]['output']>((resolve, reject) => {
        if (closed) return reject(new GraftError('ERR_RUNNER_FAILED', 'the loader is closed'))
        const { worker, pending } = choose()
        const job: Job = { id: ++ids, name, input }
        pending.set(job.id, { resolve: resolve as (output: unknown) => void, reject })
        worker.postMessage(job)
      }),
    async [Symbol.asyncDispose]() {
      closed = true
      await Promise.all([...pool].map(({ worker }) => worker.terminate()))
    },
  }
}

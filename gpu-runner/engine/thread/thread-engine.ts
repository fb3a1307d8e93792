import { Worker } from 'node:worker_threads'
import { GraftError } from '@graft/sdk/format/errors.ts'
import type { Engine, EngineInfo } from '../engine.ts'
import { errorOf } from './failure.ts'
import type { CallName, Calls, Reply, ThreadOptions } from './messages.ts'

interface Pending {
  resolve(output: unknown): void
  reject(error: Error): void
}

/** The Engine interface over a worker thread; the thread serialises steps, loads run beside them. */
export async function openThreadEngine(options: ThreadOptions): Promise<Engine> {
  const worker = new Worker(new URL('./worker.ts', import.meta.url), { workerData: options })
  const pending = new Map<number, Pending>()
  let calls = 0
  let dead: Error | null = null

  const die = (error: Error): void => {
    dead ??= error
    for (const { reject } of pending.values()) reject(dead)
    pending.clear()
  }

  const info = await new Promise<EngineInfo>((resolve, reject) => {
    worker.on('message', (reply: Reply) => {
      if (reply.kind === 'ready') return resolve(reply.info)
      if (reply.kind === 'failed') return reject(errorOf(reply.failure))
      const call = pending.get(reply.id)
      pending.delete(reply.id)
      if (reply.kind === 'done') return call?.resolve(reply.output)
      return call?.reject(errorOf(reply.failure))
    })
    worker.on('error', (error: Error) => {
      die(error)
      reject(error)
    })
    worker.on('exit', (code) => {
      const error = new GraftError('ERR_RUNNER_FAILED', `the engine thread ended with code ${code}`)
      die(error)
      reject(error)
    })
  }).catch(async (error) => {
    await worker.terminate()
    throw error
  })

  const call = <N extends CallName>(
    name: N,
    ...input: Calls[N]['input']
  ): Promise<Calls[N]['output']> =>
    new Promise((resolve, reject) => {
      if (dead) return reject(dead)
      const id = ++calls
      pending.set(id, { resolve: resolve as (output: unknown) => void, reject })
      worker.postMessage({ id, name, input })
    })

  return {
    info,
    load: (adapter) => call('load', adapter),
    unload: (digest) => call('unload', digest),
    open: (sequence, adapters, prefix) => call('open', sequence, adapters, prefix),
    close: (sequence) => call('close', sequence),
    step: (rows) => call('step', rows),
    async [Symbol.asyncDispose]() {
      if (!dead) await call('dispose')
      await worker.terminate()
    },
  }
}

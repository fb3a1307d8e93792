import { MessageChannel, Worker } from 'node:worker_threads'
import { GraftError } from '@graft/sdk/format/errors.ts'
import type { Engine, EngineInfo, LoadedAdapter } from '../engine.ts'
import { errorOf } from './failure.ts'
import type { CallName, Calls, CompileJob, Reply, ThreadOptions } from './messages.ts'

interface Pending {
  resolve(output: unknown): void
  reject(error: Error): void
}

/**
 * The Engine interface over a worker thread, which serialises steps, and a second one in which adapters are compiled
 * beside them.
 */
export async function openThreadEngine(options: ThreadOptions): Promise<Engine> {
  const channel = new MessageChannel()
  const worker = new Worker(new URL('./worker.ts', import.meta.url), {
    workerData: { ...options, compiled: channel.port1 },
    transferList: [channel.port1],
  })
  const pending = new Map<number, Pending>()
  let calls = 0
  let dead: Error | null = null

  const die = (error: Error): void => {
    dead ??= error
    for (const { reject } of pending.values()) reject(dead)
    pending.clear()
  }

  const settle = (reply: Exclude<Reply, { kind: 'ready' | 'failed' }>): void => {
    const call = pending.get(reply.id)
    pending.delete(reply.id)
    if (reply.kind === 'done') call?.resolve(reply.output)
    else call?.reject(errorOf(reply.failure))
  }

  const info = await new Promise<EngineInfo>((resolve, reject) => {
    worker.on('message', (reply: Reply) => {
      if (reply.kind === 'ready') return resolve(reply.info)
      if (reply.kind === 'failed') return reject(errorOf(reply.failure))
      return settle(reply)
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

  let compiler: Worker | null = null
  /** Started by the first adapter: an engine that serves the base alone has no use for it. */
  const startCompiler = (): Worker => {
    const started = new Worker(new URL('./compile-worker.ts', import.meta.url), {
      workerData: { ...options, engine: channel.port2 },
      transferList: [channel.port2],
    })
    started.on('message', settle)
    started.on('error', die)
    return started
  }
  const load = (adapter: LoadedAdapter): Promise<{ bytes: number }> =>
    new Promise((resolve, reject) => {
      if (dead) return reject(dead)
      compiler ??= startCompiler()
      const job: CompileJob = { id: ++calls, adapter }
      pending.set(job.id, { resolve: resolve as (output: unknown) => void, reject })
      compiler.postMessage(job)
    })

  return {
    info,
    load,
    unload: (digest) => call('unload', digest),
    open: (sequence, adapters, prefix) => call('open', sequence, adapters, prefix),
    close: (sequence) => call('close', sequence),
    step: (rows) => call('step', rows),
    async [Symbol.asyncDispose]() {
      if (!dead) await call('dispose')
      await compiler?.terminate()
      await worker.terminate()
    },
  }
}

import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { GraftError } from '@graft/sdk/format/errors.ts'
import { errorOf } from '../thread/failure.ts'
import type { PrepareReply, PrepareTask } from './prepare-messages.ts'

/**
 * Writes the base's weights with the adapter in them, at the serving precision, one tensor in memory at a time.
 * @throws ERR_OPERATION_UNSUPPORTED, ERR_TENSOR_SHAPE, ERR_TENSOR_MISSING, ERR_CHECKPOINT_INVALID
 */
export async function prepareMerged(task: PrepareTask): Promise<void> {
  const worker = new Worker(new URL('./prepare-worker.ts', import.meta.url), { workerData: task })
  const exited = once(worker, 'exit').then(([code]): PrepareReply => {
    throw new GraftError('ERR_RUNNER_FAILED', `the merging thread ended with code ${code}`)
  })
  // It may end after its reply.
  exited.catch(() => {})
  const replied = once(worker, 'message').then(([reply]) => reply as PrepareReply)
  try {
    const reply = await Promise.race([replied, exited])
    if (reply.kind === 'failed') throw errorOf(reply.failure)
  } finally {
    await worker.terminate()
  }
}

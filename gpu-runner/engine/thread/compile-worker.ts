/**
 * A thread that turns adapters into the bank's layout, so that no step waits for it. What it made goes to the engine's
 * thread by itself, under the id of the call that asked for it; failures go back to who asked.
 */
import { type MessagePort, parentPort, workerData } from 'node:worker_threads'
import { readCheckpoint } from '../../checkpoint/read-checkpoint.ts'
import { compileAdapter } from '../bank/compile-adapter.ts'
import { heldCheckpoint } from '../graph/held-checkpoint.ts'
import { mergedCheckpoint } from '../merged/merged-checkpoint.ts'
import { failureOf } from './failure.ts'
import type { Call, CompileJob, Reply, ThreadOptions } from './messages.ts'
import { ownBuffers } from './own-buffers.ts'

const port = parentPort!
const { engine, ...options } = workerData as ThreadOptions & { engine: MessagePort }

const base = await readCheckpoint(options.checkpointDir)
const checkpoint = heldCheckpoint(
  options.merge ? mergedCheckpoint(base, options.merge) : base,
  options.precision,
)

port.on('message', async ({ id, adapter }: CompileJob) => {
  try {
    const compiled = await compileAdapter(adapter, checkpoint, options.bankPrecision)
    const { value, buffers } = ownBuffers(compiled)
    engine.postMessage({ id, name: 'loadCompiled', input: [value] } satisfies Call, buffers)
  } catch (error) {
    port.postMessage({ kind: 'error', id, failure: failureOf(error) } satisfies Reply)
  }
})

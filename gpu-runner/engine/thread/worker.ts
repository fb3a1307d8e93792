/** The engine's own thread: onnxruntime-node blocks the thread it runs in, so it gets one where nothing else waits. */
import { parentPort, workerData } from 'node:worker_threads'
import { isGraftError } from '@graft/sdk/format/errors.ts'
import { readCheckpoint } from '../../checkpoint/read-checkpoint.ts'
import type { Engine, RowResult } from '../engine.ts'
import { mergedCheckpoint } from '../merged/merged-checkpoint.ts'
import { openOnnxEngine } from '../onnx/onnx-engine.ts'
import { type PreparedFolder, preparedFolder } from '../prepared/prepared-folder.ts'
import type { Call, Failure, Reply, ThreadOptions } from './messages.ts'

const port = parentPort!
const options = workerData as ThreadOptions

const failureOf = (error: unknown): Failure => ({
  code: isGraftError(error) ? error.code : null,
  message: error instanceof Error ? (error.stack ?? error.message) : String(error),
})
const plain = (failure: Failure, error: unknown): Failure =>
  isGraftError(error) ? { ...failure, message: error.message } : failure

const reply = (message: Reply, transfer: ArrayBuffer[] = []): void =>
  port.postMessage(message, transfer)

async function dispatch(
  engine: Engine,
  folder: PreparedFolder | null,
  { name, input }: Call,
): Promise<unknown> {
  if (name === 'dispose') {
    await engine[Symbol.asyncDispose]()
    await folder?.release()
    return undefined
  }
  return (engine[name] as (...args: unknown[]) => Promise<unknown>)(...input)
}

/** Logits leave by transfer: nothing is copied between the threads. */
const buffersOf = (output: unknown): ArrayBuffer[] => {
  const rows = (output as { rows?: RowResult[] } | undefined)?.rows ?? []
  // Rows of one run share the run's memory.
  return [...new Set(rows.map(({ logits }) => logits.buffer as ArrayBuffer))]
}

try {
  const base = await readCheckpoint(options.checkpointDir)
  const checkpoint = options.merge ? mergedCheckpoint(base, options.merge) : base
  const folder = await preparedFolder(options)
  const engine = await openOnnxEngine({
    ...options,
    checkpoint,
    ...(folder ? { prepared: folder.path } : {}),
  })
  port.on('message', async (call: Call) => {
    try {
      const output = await dispatch(engine, folder, call)
      reply({ kind: 'done', id: call.id, output }, buffersOf(output))
    } catch (error) {
      reply({ kind: 'error', id: call.id, failure: plain(failureOf(error), error) })
    }
  })
  reply({ kind: 'ready', info: engine.info })
} catch (error) {
  reply({ kind: 'failed', failure: plain(failureOf(error), error) })
}

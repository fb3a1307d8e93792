/** The engine's own thread: onnxruntime-node blocks the thread it runs in, so it gets one where nothing else waits. */
import { type MessagePort, parentPort, workerData } from 'node:worker_threads'
import { readCheckpoint } from '../../checkpoint/read-checkpoint.ts'
import type { RowResult } from '../engine.ts'
import { mergedCheckpoint } from '../merged/merged-checkpoint.ts'
import { type OnnxEngine, openOnnxEngine } from '../onnx/onnx-engine.ts'
import { failureOf } from './failure.ts'
import type { Call, Reply, ThreadOptions } from './messages.ts'

const port = parentPort!
const { compiled, ...options } = workerData as ThreadOptions & { compiled: MessagePort }

const reply = (message: Reply, transfer: ArrayBuffer[] = []): void =>
  port.postMessage(message, transfer)

function dispatch(engine: OnnxEngine, { name, input }: Call): Promise<unknown> {
  if (name === 'dispose') return Promise.resolve(engine[Symbol.asyncDispose]())
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
  const { prepared, ...rest } = options
  const engine = await openOnnxEngine({ ...rest, checkpoint, ...(prepared ? { prepared } : {}) })
  const answer = async (call: Call): Promise<void> => {
    try {
      const output = await dispatch(engine, call)
      reply({ kind: 'done', id: call.id, output }, buffersOf(output))
    } catch (error) {
      reply({ kind: 'error', id: call.id, failure: failureOf(error) })
    }
  }
  port.on('message', answer)
  compiled.on('message', answer)
  reply({ kind: 'ready', info: engine.info })
} catch (error) {
  reply({ kind: 'failed', failure: failureOf(error) })
}

/** Merges, converts and writes weights in a thread that gives way to every other one. */
import { setPriority } from 'node:os'
import { parentPort, workerData } from 'node:worker_threads'
import { readCheckpoint } from '../../checkpoint/read-checkpoint.ts'
import { prepareWeights } from '../prepared/prepare-weights.ts'
import { PreparedWeights } from '../prepared/prepared-weights.ts'
import { failureOf } from '../thread/failure.ts'
import { mergedCheckpoint } from './merged-checkpoint.ts'
import type { PrepareReply, PrepareTask } from './prepare-messages.ts'

/** Nice value: a quarter of a core that serving wants as well, all of one that it leaves idle. */
const LOW_PRIORITY = 5

const { checkpointDir, precision, execution, adapter, folder } = workerData as PrepareTask
const reply = (message: PrepareReply): void => parentPort!.postMessage(message)

// Only Linux has priorities of threads; elsewhere the call would slow the whole process down.
if (process.platform === 'linux') setPriority(LOW_PRIORITY)
try {
  const checkpoint = mergedCheckpoint(await readCheckpoint(checkpointDir), adapter)
  const weights = await PreparedWeights.open(folder)
  prepareWeights(checkpoint, weights, precision, execution)
  await weights.seal()
  reply({ kind: 'done' })
} catch (error) {
  reply({ kind: 'failed', failure: failureOf(error) })
}

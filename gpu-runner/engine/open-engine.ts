import type { Digest } from '@graft/sdk/format/digest.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import { describeCheckpoint } from '../checkpoint/describe-checkpoint.ts'
import { ENGINE_DEFAULTS } from './defaults.ts'
import type { Engine } from './engine.ts'
import type { Precision } from './graph/linear-weights.ts'
import { openThreadEngine } from './thread/thread-engine.ts'

export interface EngineOptions {
  /** Hugging Face layout: config.json, model.safetensors or its shards. */
  checkpointDir: string
  /** @default "fp32" */
  precision?: Precision
  /** Most sequences open at once. @default 32 */
  slots?: number
  /** Threads of one operator. @default 2 */
  threads?: number
  /** @default 1 GiB */
  bankBudgetBytes?: number
  /** Known already? Saves hashing the files. */
  baseDigest?: Digest
}

const PRECISIONS: readonly Precision[] = ['fp32', 'int8', 'int4']

export const parsePrecision = (text: string): Precision => {
  const found = PRECISIONS.find((precision) => precision === text)
  if (found) return found
  throw new GraftError('ERR_REQUEST_INVALID', expected('precision', PRECISIONS.join(', '), text))
}

/** Opens the onnx engine in a thread of its own. @throws ERR_CHECKPOINT_INVALID, ERR_ARCHITECTURE_UNSUPPORTED */
export async function openEngine(options: EngineOptions): Promise<Engine> {
  const { checkpointDir, precision, slots, threads, bankBudgetBytes } = {
    ...ENGINE_DEFAULTS,
    ...options,
  }
  const baseDigest = options.baseDigest ?? (await describeCheckpoint(checkpointDir)).digest
  return openThreadEngine({
    checkpointDir,
    baseDigest,
    precision,
    slots,
    threads,
    bankBudgetBytes,
    merge: null,
  })
}

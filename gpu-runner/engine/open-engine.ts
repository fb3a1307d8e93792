import type { Digest } from '@graft/sdk/format/digest.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import { describeCheckpoint } from '../checkpoint/describe-checkpoint.ts'
import { KV_PRECISIONS, type KvPrecision } from './bank/kv-format.ts'
import { BANK_PRECISIONS, type BankPrecision } from './bank/stored-table.ts'
import { ENGINE_DEFAULTS } from './defaults.ts'
import type { Engine, LoadedAdapter } from './engine.ts'
import { EXECUTIONS, type Execution } from './graph/execution.ts'
import { PRECISIONS, type Precision } from './graph/precisions.ts'
import { preparedFolder } from './prepared/prepared-folder.ts'
import { openThreadEngine } from './thread/thread-engine.ts'

export interface EngineOptions {
  /** Hugging Face layout: config.json, model.safetensors or its shards. */
  checkpointDir: string
  /** @default "fp32" */
  precision?: Precision
  /** Where the graph runs and keys and values are held. @default "cpu" */
  execution?: Execution
  /** Most sequences open at once. @default 32 */
  slots?: number
  /** Threads of one operator. @default 2 */
  threads?: number
  /** @default 1 GiB */
  bankBudgetBytes?: number
  /** Of low-rank updates while they wait in the bank. @default "fp32" */
  bankPrecision?: BankPrecision
  /** How keys and values of open sequences are held. @default "fp32" */
  kvPrecision?: KvPrecision
  /** Most bytes of keys and values of open sequences. @default 1 GiB */
  kvBudgetBytes?: number
  /** Most bytes of prompt blocks that are kept for later sequences; 0 = none are. @default 256 MiB */
  prefixBudgetBytes?: number
  /** Known already? Saves hashing the files. */
  baseDigest?: Digest
  /**
   * Folder where bases are prepared: weights at their precision, by digest, which the next start maps as they are.
   * @default none: weights are converted at each start and held in memory
   */
  preparedDir?: string
  /** An adapter folded into the weights, and the folder where these are prepared. @default none */
  merged?: { adapter: LoadedAdapter; folder: string }
}

export const parsePrecision = (text: string): Precision => {
  if (Object.hasOwn(PRECISIONS, text)) return text as Precision
  const names = Object.keys(PRECISIONS).join(', ')
  throw new GraftError('ERR_REQUEST_INVALID', expected('precision', names, text))
}

export const parseBankPrecision = (text: string): BankPrecision => {
  const found = BANK_PRECISIONS.find((precision) => precision === text)
  if (found) return found
  throw new GraftError(
    'ERR_REQUEST_INVALID',
    expected('bank precision', BANK_PRECISIONS.join(', '), text),
  )
}

export const parseKvPrecision = (text: string): KvPrecision => {
  const found = KV_PRECISIONS.find((precision) => precision === text)
  if (found) return found
  throw new GraftError(
    'ERR_REQUEST_INVALID',
    expected('precision of keys and values', KV_PRECISIONS.join(', '), text),
  )
}

export const parseExecution = (text: string): Execution => {
  const found = EXECUTIONS.find((execution) => execution === text)
  if (found) return found
  throw new GraftError('ERR_REQUEST_INVALID', expected('execution', EXECUTIONS.join(' or '), text))
}

/**
 * Opens the onnx engine in a thread of its own.
 * @throws ERR_NOT_INSTALLED when the machine lacks what the execution needs, ERR_CHECKPOINT_INVALID, ERR_ARCHITECTURE_UNSUPPORTED
 */
export async function openEngine(options: EngineOptions): Promise<Engine> {
  const settings = { ...ENGINE_DEFAULTS, ...options }
  const { checkpointDir, precision, execution, slots, threads, bankBudgetBytes } = settings
  const { bankPrecision, kvPrecision, kvBudgetBytes, prefixBudgetBytes } = settings
  const { merged, preparedDir } = options
  const baseDigest = options.baseDigest ?? (await describeCheckpoint(checkpointDir)).digest
  const folder = preparedDir ? preparedFolder(preparedDir, { baseDigest, precision }) : null
  return openThreadEngine({
    checkpointDir,
    baseDigest,
    precision,
    execution,
    slots,
    threads,
    bankBudgetBytes,
    bankPrecision,
    kvPrecision,
    kvBudgetBytes,
    prefixBudgetBytes,
    prepared: merged?.folder ?? folder,
    merge: merged?.adapter ?? null,
  })
}

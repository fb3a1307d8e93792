import type { Digest } from '@graft/sdk/format/digest.ts'
import type { ErrorCode } from '@graft/sdk/format/errors.ts'
import type { CompiledAdapter } from '../bank/compiled-adapter.ts'
import type { KvPrecision } from '../bank/kv-format.ts'
import type { BankPrecision } from '../bank/stored-table.ts'
import type { EngineInfo, LoadedAdapter, PromptPrefix, RowResult, StepRow } from '../engine.ts'
import type { Execution } from '../graph/execution.ts'
import type { Precision } from '../graph/linear-weights.ts'

export interface ThreadOptions {
  checkpointDir: string
  baseDigest: Digest
  precision: Precision
  /** @default "cpu" */
  execution?: Execution
  slots: number
  threads: number
  bankBudgetBytes: number
  bankPrecision: BankPrecision
  kvPrecision: KvPrecision
  kvBudgetBytes: number
  prefixBudgetBytes: number
  /** Folder where the weights are prepared, or will be; null = weights in memory. */
  prepared: string | null
  /** The adapter that is folded into them; null = the base as it is. */
  merge: LoadedAdapter | null
}

/** Calls by name, as the Engine interface has them. */
export interface Calls {
  /** Sent by the compiling thread, on behalf of `load`. */
  loadCompiled: { input: [CompiledAdapter]; output: { bytes: number } }
  unload: { input: [Digest]; output: undefined }
  open: {
    input: [number, { digest: Digest; weight: number }[], PromptPrefix | undefined]
    output: { cachedTokens: number }
  }
  close: { input: [number]; output: undefined }
  step: { input: [StepRow[]]; output: { rows: RowResult[]; ms: number } }
  dispose: { input: []; output: undefined }
}
export type CallName = keyof Calls

export interface Call {
  id: number
  name: CallName
  input: unknown[]
}

export type Failure = { code: ErrorCode | null; message: string }

/** To the compiling thread: the adapter of a `load`. */
export interface CompileJob {
  id: number
  adapter: LoadedAdapter
}

export type Reply =
  | { kind: 'ready'; info: EngineInfo }
  | { kind: 'failed'; failure: Failure }
  | { kind: 'done'; id: number; output: unknown }
  | { kind: 'error'; id: number; failure: Failure }

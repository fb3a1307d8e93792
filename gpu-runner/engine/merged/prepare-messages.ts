import type { LoadedAdapter } from '../engine.ts'
import type { Execution } from '../graph/execution.ts'
import type { Precision } from '../graph/linear-weights.ts'
import type { Failure } from '../thread/messages.ts'

export interface PrepareTask {
  checkpointDir: string
  precision: Precision
  execution: Execution
  adapter: LoadedAdapter
  /** Where the merged weights go. */
  folder: string
}

export type PrepareReply = { kind: 'done' } | { kind: 'failed'; failure: Failure }

import type { Digest } from '@graft/sdk/format/digest.ts'
import type { Operation, OperationKind } from '@graft/sdk/format/operations.ts'

/** An adapter ready for a bank: operations and their tensors as f32, shapes as the manifest states them. */
export interface LoadedAdapter {
  digest: Digest
  operations: Operation[]
  tensors: Map<string, { shape: number[]; data: Float32Array }>
}

export interface EngineInfo {
  base: { name: string; digest: Digest }
  vocab: number
  hidden: number
  layers: number
  maxPositions: number
  /** Most sequences open at once. */
  slots: number
  operations: OperationKind[]
  /** Of the base's linears. */
  precision: 'fp32' | 'int8' | 'w8a8' | 'int4' | 'nf4' | 'nf4-exact'
  /** Where the graph runs. */
  execution: 'cpu' | 'webgpu'
  /** Of keys and values held for open sequences. */
  kvPrecision: 'fp32' | 'fp16' | 'int8'
  /** Of low-rank updates while they wait in the bank; a step computes in fp32. */
  bankPrecision: 'fp32' | 'fp16' | 'int8'
  /** Changes whenever the arithmetic may: engine version, onnxruntime version, precision. */
  build: string
  bankBudgetBytes: number
}

/**
 * Full blocks of a prompt that other sequences may have run before. A key names a block and all that stands before it:
 * tenant salt, prepared base, adapters with weights, token ids.
 */
export interface PromptPrefix {
  /** One key for each full block, first block first. */
  keys: string[]
  /** Tokens of one block. */
  block: number
}

/** New tokens of one sequence in one step: a prompt chunk or the token just sampled. */
export interface StepRow {
  sequence: number
  tokenIds: number[]
  logits: 'none' | 'last' | 'all'
}

export interface RowResult {
  sequence: number
  /** [tokens asked for, vocab]; empty when none were asked for. */
  logits: Float32Array
  /** false: this row's values overflowed; it alone fails. */
  finite: boolean
}

/**
 * One base model and a bank of adapters. Calls are serialised by the caller: one step at a time;
 * load and unload may run while a step runs.
 */
export interface Engine extends AsyncDisposable {
  readonly info: EngineInfo
  /**
   * Puts an adapter into the bank. Tensors in shared memory are their owner's again once this resolves.
   * @throws ERR_BANK_FULL, ERR_OPERATION_UNSUPPORTED, ERR_TENSOR_SHAPE
   */
  load(adapter: LoadedAdapter): Promise<{ bytes: number }>
  /** @throws when an open sequence uses it: the caller pins. */
  unload(digest: Digest): Promise<void>
  /**
   * Opens a KV slot for a sequence run with a weighted sum of banked adapters; [] = the base alone.
   * @param prefix what may be taken from, and kept for, sequences with the same keys
   * @returns tokens that stand in the slot already: whole blocks from the prompt's start, at most `keys.length` of them;
   * whether the adapter's weights are part of the base that this sequence runs on
   */
  open(
    sequence: number,
    adapters: { digest: Digest; weight: number }[],
    prefix?: PromptPrefix,
  ): Promise<{ cachedTokens: number; merged?: boolean }>
  close(sequence: number): Promise<void>
  /**
   * @throws ERR_PROMPT_TOO_LONG, ERR_REQUEST_INVALID, ERR_OVERLOADED (no memory for keys and values now) for one row's sake, before anything is computed
   */
  step(rows: StepRow[]): Promise<{ rows: RowResult[]; ms: number }>
}

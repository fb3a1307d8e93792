import type { PromptPrefix } from '../engine.ts'
import type { Ort } from './ort.ts'
import type { Run, RunRow } from './plan-runs.ts'

/** K and V of one layer for the positions that an adapter's prefix fills, each [kvHeads, tokens, headDim]. */
export interface KvRows {
  layer: number
  tokens: number
  k: Float32Array
  v: Float32Array
}

/** Keys and values of the open sequences: where they are held, and how a run reads and extends them. */
export interface KvStore {
  /**
   * Makes room for `positions` of a slot.
   * @throws ERR_PROMPT_TOO_LONG when there is no memory for them, ERR_OVERLOADED when other slots hold it
   */
  reserve(slot: number, positions: number): Promise<void> | void
  /** Writes positions 0.. of a slot, and makes room for them. */
  write(slot: number, rows: KvRows[]): Promise<void> | void
  /**
   * Copies stored blocks of a prompt behind what was written, and from now on keeps the blocks that the slot fills.
   * @param virtual positions that stand before the first token
   * @returns prompt tokens that stand in the slot now; virtual positions stand in it too where that is more than none
   */
  adopt(slot: number, prefix: PromptPrefix, virtual: number): Promise<number> | number
  /** Deals the rows of a step to runs; room was made for all of them. */
  plan(rows: RunRow[]): Run[]
  /** Inputs of the graph's attention. */
  feeds(run: Run): Record<string, Ort.Tensor>
  /** Outputs to ask for, and those that are written in place; undefined: all, each into memory of its own. */
  fetches(): Record<string, Ort.Tensor | null> | undefined
  /** Keeps what a run computed. @returns for each row of the run whether its values are finite */
  keep(run: Run, outputs: Record<string, Ort.Tensor>): boolean[]
  /**
   * The slot's sequence is closed.
   * @param poisoned its values overflowed. Masked positions weigh 0, and 0 * NaN would still be NaN for the next owner
   */
  free(slot: number, poisoned: boolean): Promise<void> | void
  dispose(): Promise<void>
}

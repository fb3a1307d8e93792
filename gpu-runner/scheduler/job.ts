import type { Digest } from '@graft/sdk/format/digest.ts'
import type { GraftError } from '@graft/sdk/format/errors.ts'

/** One sequence's work. The scheduler calls it; none of its functions may throw. */
export interface Job {
  requestId: string
  tenant: string
  /** The tenant's share beside others. @default 1 */
  weight?: number
  /** Same for a request and its repetition, so that one who was told to come back finds its place. @default requestId */
  key?: string
  adapters: { digest: Digest; weight: number }[]
  /** Fed before the first answer token; at least one. */
  tokenIds: readonly number[]
  /** Most tokens that the answer may take: what is fed after tokenIds. @default what the window leaves */
  maxTokens?: number
  /** 'all': onLogits sees every fed position; 'last': only the newest once the prompt is read. */
  logits: 'last' | 'all'
  /** Work of the runner itself (admission), on the share of the tenant that asked: not counted as a request. */
  background: boolean
  /** Unix milliseconds; null = none. */
  deadline: number | null
  /**
   * The sequence has its slot. cachedTokens: of its first tokens, run before for another sequence;
   * merged: as Engine.open says, it runs on weights that hold its adapter.
   */
  onOpen?(opened: { cachedTokens: number; merged: boolean }): void
  /**
   * [count, vocab] logits of the positions just fed. Gives the token to feed next; null ends the job.
   * While a promise is open the sequence keeps its slot and sits out; a rejection ends it.
   */
  onLogits(logits: Float32Array): number | null | Promise<number | null>
  /** The job is over and its slot is free: null when it ended by itself. */
  onEnd(error: GraftError | null): void
}

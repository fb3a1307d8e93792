import type { Binding } from '../bank/adapter-bank.ts'

/** An open sequence: its slot in the KV cache, how far it is filled, and what it uses of the bank. */
export interface Sequence {
  id: number
  slot: number
  /** Positions filled, virtual ones included. */
  length: number
  binding: Binding
  /** Virtual token embeddings that still stand before the first token, [tokens, hidden]. */
  pendingPrompt: { tokens: number; embeddings: Float32Array } | null
  /** A value of this row overflowed: its slot must be cleared. */
  poisoned: boolean
  /** Tokens of a prompt that must be computed at once, until its last ones come. */
  held: number[]
}

import type { Digest } from '../format/digest.ts'

/** A runner's own statement of what ran, signed by its key (typ `graft-runner-receipt+jws`, compact). */
export interface RunnerReceipt {
  v: 1
  requestId: string
  /** sha256 of the canonical JSON of RequestFacts. */
  requestHash: Digest
  tenant: string
  base: Digest
  /** What stood in the bank while this request ran, in the order asked. */
  adapters: { digest: Digest; weight: string }[]
  mergeState: 'none' | 'banked' | 'merged'
  tokens: { prompt: number; cached: number; completion: number }
  finish: FinishReason
  runner: { id: string; build: string }
  issuedAt: string
}

export type FinishReason = 'stop' | 'length' | 'cancelled' | 'error' | 'insufficient_quota'

/** What the request hash covers: everything that decides the answer. */
export interface RequestFacts {
  base: Digest
  adapters: { digest: Digest; weight: string }[]
  prompt: string
  sampling: Record<string, unknown>
}

/** The edge's countersignature (typ `graft-receipt+jws`, compact): the runner's receipt and what was charged. */
export interface Receipt {
  v: 1
  requestId: string
  tenant: string
  model: string
  /** Compact JWS of RunnerReceipt; null when no runner answered. */
  runner: string | null
  outcome: 'complete' | 'client_abort' | 'failed' | 'insufficient_quota'
  billed: { prompt: number; cached: number; completion: number }
  /** Billed completion tokens of runners that failed before the one that signed went on. @default 0 */
  resumed?: number
  price: {
    version: string
    /** Nano-units per token. */
    input: number
    output: number
    cached: number
  }
  /** Nano-units. */
  charged: number
  currency: string
  holdId: string
  issuedAt: string
}

/** GET /.well-known/graft-keys.json at the edge: keys that sign receipts, by kid. */
export interface ReceiptKeys {
  edge: JsonWebKey[]
  runners: JsonWebKey[]
}

/** How a receipt travels on a stream: an SSE comment line `: graft-receipt <compact JWS>` before `data: [DONE]`. */
export const RECEIPT_COMMENT = 'graft-receipt'
/** The field of the usage chunk and of non-stream bodies, and the header of non-streams. */
export const RECEIPT_FIELD = 'graft_receipt'
export const RECEIPT_HEADER = 'x-graft-receipt'

/** Integer nano-units (1e-9 of the currency). Never a float: every amount is a safe integer, checked on entry. */
export type Nanos = number
export const NANOS_PER_UNIT = 1_000_000_000
export const MAX_NANOS = Number.MAX_SAFE_INTEGER

/** Accounts of one tenant's book. A book balances alone: postings of an entry sum to zero. */
export type Account =
  /** What the tenant may still spend. */
  | 'available'
  /** Set aside for calls in flight. */
  | 'held'
  /** Money from outside (top-ups), negative by nature. */
  | 'funding'
  /** Owed to authors, `author:<org>`; cleared to their books by the outbox. */
  | `author:${string}`
  /** The operator's share. */
  | 'platform'

export type EntryType = 'top_up' | 'hold' | 'extend' | 'settle' | 'release' | 'expire' | 'refund'

/** Append-only. `hash` chains entries: sha256 of the canonical JSON of the entry without hash, `previous` included. */
export interface LedgerEntry {
  id: number
  type: EntryType
  at: string
  holdId: string | null
  requestId: string | null
  postings: { account: Account; amount: Nanos }[]
  memo: string
  previous: string
  hash: string
}

export interface Balance {
  tenant: string
  currency: string
  available: Nanos
  held: Nanos
  /** Settled so far. */
  spent: Nanos
}

/** A versioned price; shares are in parts of a million of what is charged for the adapter. */
export interface Price {
  version: string
  /** Nano-units per token. */
  input: Nanos
  output: Nanos
  cached: Nanos
  /** Parts per million of the charge that go to the adapters' authors, by |weight|. */
  authorShare: number
}

/*
 * The edge's HTTP surface beside OpenAI's /v1 routes. `auth` = Bearer access token of the tenant.
 *
 *   GET  /healthz, GET /metrics, GET /.well-known/graft-keys.json
 *   GET  /v1/models, GET /v1/models/:id, POST /v1/completions, POST /v1/chat/completions
 *   GET  /v1/receipts/:requestId       auth infer -> { receipt: string, ...Receipt }
 *   GET  /v1/balance                   auth infer -> Balance
 *   GET  /v1/ledger/entries?after=     auth ledger -> { entries: LedgerEntry[] }
 *   POST /v1/ledger/top-ups            auth with scope `admin` of the operator's org: TopUpRequest -> Balance
 *   POST /v1/fleet/heartbeat           fleet token: Heartbeat -> HeartbeatAnswer
 *   GET  /v1/fleet                     auth admin -> { runners }
 */
export interface TopUpRequest {
  tenant: string
  amount: Nanos
  /** A repeat with the same id changes nothing. */
  id: string
  memo: string
}

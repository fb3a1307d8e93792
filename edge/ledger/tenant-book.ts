import type { Account, Balance, LedgerEntry, Nanos } from '@graft/sdk/protocol/ledger.ts'

export interface HoldRequest {
  holdId: string
  requestId: string
  amount: Nanos
  /** Unix milliseconds: holds due by then are resolved first, so that a crash's holds never starve a tenant. */
  now: number
  /** Unix milliseconds. */
  expiresAt: number
}

export interface Settlement {
  holdId: string
  /** At most what is held. */
  amount: Nanos
  /** Who gets it; sums to `amount`. */
  shares: { account: Account; amount: Nanos }[]
  /** Compact JWS, stored in the same transaction as the entry. */
  receipt: string
}

/** What an Idempotency-Key is known to stand for. */
export type KeptAnswer =
  | { state: 'new' }
  | { state: 'in_flight' }
  | { state: 'mismatch' }
  | { state: 'kept'; status: number; headers: Record<string, string>; body: string }

/**
 * One tenant's double-entry book: what may be spent, what is held for calls in flight, and what was settled to whom.
 * Every operation is one transaction, and the operations of one tenant are one queue: that is the whole defence
 * against overspending. Errors: ERR_NO_BALANCE, ERR_HOLD_UNKNOWN, ERR_HOLD_RESOLVED, ERR_HOLD_EXCEEDED,
 * ERR_ALREADY_POSTED, ERR_LEDGER_RANGE; whatever else is thrown means that the store cannot be used.
 */
export interface BookOperations {
  /** A repeat with the same id and amount changes nothing. @throws ERR_ALREADY_POSTED for another amount */
  topUp(input: { id: string; amount: Nanos; memo: string }): Balance
  /** @throws ERR_NO_BALANCE when less than `amount` is available */
  hold(input: HoldRequest): Balance
  /** Adds `amount` to an open hold. @throws ERR_NO_BALANCE, and the hold stays as it was */
  extend(input: { holdId: string; amount: Nanos }): Balance
  /** Moves an open hold's expiry. */
  renew(input: { holdId: string; expiresAt: number }): void
  /** Resolves a hold: `amount` goes to `shares`, the rest comes back. @throws ERR_HOLD_EXCEEDED */
  settle(input: Settlement): Balance
  /** Resolves a hold: all of it comes back. */
  release(input: { holdId: string; memo: string; receipt: string | null }): Balance
  /** Resolves open holds whose expiry is at or before `now` (Unix milliseconds). @returns how many */
  expireDue(now: number): number
  balance(): Balance
  /** Entries with an id above `after`, oldest first, at most `limit`. */
  entries(input: { after: number; limit: number }): LedgerEntry[]
  /** @returns the compact JWS, or null when no such call is known. */
  receipt(requestId: string): string | null
  /** Claims an Idempotency-Key for a call, or says what became of it. */
  claimKey(input: { key: string; fingerprint: string; now: number; expiresAt: number }): KeptAnswer
  /** Keeps the answer; null gives the key up, so that a repeat runs again. */
  keepAnswer(input: {
    key: string
    /** Unix milliseconds. */
    expiresAt: number
    answer: { status: number; headers: Record<string, string>; body: string } | null
  }): void
}

/** The same, as a store that may be elsewhere is asked. */
export type TenantBook = {
  [Name in keyof BookOperations]: (
    ...input: Parameters<BookOperations[Name]>
  ) => Promise<ReturnType<BookOperations[Name]>>
}

export interface TenantBooks {
  /** Opens at the first call; a tenant never topped up has an empty book. */
  book(tenant: string): TenantBook
}

export const BOOK_OPERATIONS = [
  'topUp',
  'hold',
  'extend',
  'renew',
  'settle',
  'release',
  'expireDue',
  'balance',
  'entries',
  'receipt',
  'claimKey',
  'keepAnswer',
] as const satisfies (keyof BookOperations)[]

/** Builds a TenantBook from one function that carries an operation to wherever the book is. */
export function tenantBook(
  send: (name: keyof BookOperations, input: unknown[]) => Promise<unknown>,
): TenantBook {
  const entries = BOOK_OPERATIONS.map((name) => [name, (...input: unknown[]) => send(name, input)])
  return Object.fromEntries(entries) as TenantBook
}

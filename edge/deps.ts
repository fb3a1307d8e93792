import type { SigningKey } from '@graft/sdk/format/jws.ts'
import type { Issuer } from './auth/issuer-feed.ts'
import type { Fleet } from './fleet/fleet.ts'
import type { PriceList } from './ledger/prices.ts'
import type { TenantBooks } from './ledger/tenant-book.ts'

export interface EdgeLimits {
  /** Calls one access token may have open. */
  concurrency: number
  /** Calls one access token may start in any 60 seconds. */
  requestsPerMinute: number
  bodyBytes: number
  /** Milliseconds without a frame after which a runner counts as failed. */
  runnerIdleMs: number
  /** Milliseconds after which a call is of no use to anybody. */
  callMs: number
}

export const DEFAULT_LIMITS: EdgeLimits = {
  concurrency: 256,
  requestsPerMinute: 6_000,
  // A context of 128k tokens is about half a megabyte of text; JSON escapes may multiply it.
  bodyBytes: 4_000_000,
  runnerIdleMs: 60_000,
  callMs: 600_000,
}

/** All that the edge is given; it never asks which platform it is on. */
export interface EdgeDeps {
  registryUrl: string
  /** For the registry and for runners. Replace to use a proxy or a service binding. */
  fetch: typeof fetch
  /** `iss` of the access tokens that count here. */
  issuerName: string
  issuer: Issuer
  books: TenantBooks
  fleet: Fleet
  /** Signs what the edge shows runners, and verifies what runners show the edge. */
  fleetKey: SigningKey
  receiptKey: SigningKey
  prices: PriceList
  /** The organisation whose `admin` tokens may top up books and see the fleet. */
  operatorTenant: string
  currency: string
  clock: () => Date
  limits: EdgeLimits
  /** One line per event; never given a token, a prompt or an answer. */
  log: (event: Record<string, unknown>) => void
  randomId: () => string
}

import { randomUUID } from 'node:crypto'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { GraftError } from '@graft/sdk/format/errors.ts'
import {
  exportSigningKey,
  generateSigningKey,
  importSigningKey,
  type SigningKey,
} from '@graft/sdk/format/jws.ts'
import { createEdge } from '../app.ts'
import { createIssuerFeed } from '../auth/issuer-feed.ts'
import { DEFAULT_LIMITS, type EdgeLimits } from '../deps.ts'
import { createFleet } from '../fleet/fleet.ts'
import { DEFAULT_PRICES, type PriceList } from '../ledger/prices.ts'
import { watchHolds } from './open-holds.ts'
import { openSqliteBooks } from './sqlite-books.ts'

const REFRESH_EVERY_MS = 4_000
const EXPIRE_EVERY_MS = 5_000
/** A call cut by its server's end settles in milliseconds; one that does not expires, and was free. */
const SETTLE_MS = 5_000

export interface NodeEdgeOptions {
  /** Holds `ledger.sqlite` and the receipt key; made when absent. */
  stateDir: string
  registryUrl: string
  /** `iss` of the access tokens that count here. */
  issuerName: string
  fleetKey: SigningKey
  operatorTenant: string
  /** @default DEFAULT_PRICES */
  prices?: PriceList
  /** @default "USD" */
  currency?: string
  limits?: Partial<EdgeLimits>
  /** Replace to use a proxy. @default globalThis.fetch */
  fetch?: typeof fetch
  /** @default JSON lines on stderr */
  log?: (event: Record<string, unknown>) => void
}

/** An edge of one process: books in SQLite, the fleet in memory. */
export async function createNodeEdge(options: NodeEdgeOptions): Promise<{
  app: ReturnType<typeof createEdge>
  /** Waits for calls under way to be settled (not for new ones to be refused: close the server first). */
  close(): Promise<void>
}> {
  const { stateDir, registryUrl, issuerName, fleetKey, operatorTenant } = options
  mkdirSync(stateDir, { recursive: true, mode: 0o700 })
  const clock = () => new Date()
  const currency = options.currency ?? 'USD'
  const call = options.fetch ?? globalThis.fetch
  const issuer = createIssuerFeed({ registryUrl, fetch: call, clock })
  const receiptKey = await openReceiptKey(join(stateDir, 'receipt-key.json'))
  const books = openSqliteBooks({ path: join(stateDir, 'ledger.sqlite'), currency, clock })
  const watched = watchHolds(books)
  const log = options.log ?? logLine
  const app = createEdge({
    registryUrl,
    fetch: call,
    issuerName,
    issuer,
    books: watched,
    fleet: createFleet(clock),
    fleetKey,
    receiptKey,
    prices: options.prices ?? DEFAULT_PRICES,
    operatorTenant,
    currency,
    clock,
    limits: { ...DEFAULT_LIMITS, ...options.limits },
    log,
    randomId: () => randomUUID().replaceAll('-', ''),
  })
  const timers = [
    setInterval(() => void issuer.refresh(), REFRESH_EVERY_MS),
    setInterval(() => {
      try {
        const expired = books.expireDue(clock().getTime())
        if (expired > 0) log({ event: 'holds_expired', expired })
      } catch (error) {
        log({ event: 'error', message: `holds cannot be expired: ${String(error)}` })
      }
    }, EXPIRE_EVERY_MS),
  ]
  for (const timer of timers) timer.unref()
  void issuer.refresh()
  return {
    app,
    async close() {
      for (const timer of timers) clearInterval(timer)
      const left = await watched.settled(SETTLE_MS)
      if (left > 0) log({ event: 'error', message: `closing with ${left} calls not settled` })
      books.close()
    },
  }
}

const logLine = (event: Record<string, unknown>): void => {
  process.stderr.write(
    `${JSON.stringify({ at: new Date().toISOString(), room: 'edge', ...event })}\n`,
  )
}

/** The key survives restarts, so that yesterday's receipts still verify. Only its owner may read it. */
async function openReceiptKey(path: string): Promise<SigningKey> {
  try {
    return await importSigningKey(JSON.parse(readFileSync(path, 'utf8')) as JsonWebKey)
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'ENOENT')
      throw new GraftError(
        'ERR_STATE_DAMAGED',
        `${path} must hold the receipt key; restore it from a backup, or move it away to start with a new key`,
        { cause },
      )
  }
  const key = await generateSigningKey()
  writeFileSync(path, JSON.stringify(await exportSigningKey(key)), { mode: 0o600, flag: 'wx' })
  return key
}

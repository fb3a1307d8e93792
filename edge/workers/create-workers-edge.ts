import { GraftError } from '@graft/sdk/format/errors.ts'
import { importSigningKey } from '@graft/sdk/format/jws.ts'
import { createEdge } from '../app.ts'
import { createIssuerFeed } from '../auth/issuer-feed.ts'
import { DEFAULT_LIMITS } from '../deps.ts'
import { DEFAULT_PRICES, type PriceList } from '../ledger/prices.ts'
import { durableFleet, type FleetObject } from './fleet-object.ts'
import { durableBooks, type TenantBookObject } from './tenant-book.ts'

/** What wrangler.toml binds; in the style of its own variables. */
export interface EdgeBindings {
  TENANT_BOOKS: DurableObjectNamespace<TenantBookObject>
  FLEET: DurableObjectNamespace<FleetObject>
  /** Secret: private JWK. */
  RECEIPT_KEY: string
  /** Secret: private JWK, the same at every server of the fleet. */
  FLEET_KEY: string
  REGISTRY_URL: string
  /** The registry in the same account; spares the trip through the public network. */
  REGISTRY?: Fetcher
  /** `iss` of the access tokens that count here. */
  ISSUER: string
  OPERATOR_TENANT: string
  /** @default "USD" */
  CURRENCY?: string
  /** JSON of a PriceList. @default DEFAULT_PRICES */
  PRICES?: string
}

/** The edge over Durable Objects. Build it once per isolate: caches and rate limits live in it. */
export async function createWorkersEdge(env: EdgeBindings) {
  const clock = () => new Date()
  const currency = env.CURRENCY ?? 'USD'
  const { REGISTRY_URL: registryUrl, REGISTRY: registry } = env
  const origin = new URL(registryUrl).origin
  const call = ((input: RequestInfo | URL, init?: RequestInit) => {
    const url = new URL(input instanceof Request ? input.url : String(input))
    return registry && url.origin === origin ? registry.fetch(url, init) : fetch(input, init)
  }) as typeof fetch
  return createEdge({
    registryUrl,
    fetch: call,
    issuerName: env.ISSUER,
    issuer: createIssuerFeed({ registryUrl, fetch: call, clock }),
    books: durableBooks(env.TENANT_BOOKS, currency),
    fleet: durableFleet(env.FLEET),
    fleetKey: await importSigningKey(parseVariable('FLEET_KEY', env.FLEET_KEY)),
    receiptKey: await importSigningKey(parseVariable('RECEIPT_KEY', env.RECEIPT_KEY)),
    prices: env.PRICES ? parseVariable<PriceList>('PRICES', env.PRICES) : DEFAULT_PRICES,
    operatorTenant: env.OPERATOR_TENANT,
    currency,
    clock,
    limits: DEFAULT_LIMITS,
    log: (event) => console.log(JSON.stringify({ room: 'edge', ...event })),
    randomId: () => crypto.randomUUID().replaceAll('-', ''),
  })
}

function parseVariable<T>(name: string, text: string): T {
  try {
    return JSON.parse(text) as T
  } catch {
    // The cause would quote the text, which may be a secret.
    throw new GraftError('ERR_INTERNAL', `the variable ${name} must be JSON`)
  }
}

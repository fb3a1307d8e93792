import { createEdge } from '@graft/edge/app.ts'
import { createIssuerFeed } from '@graft/edge/auth/issuer-feed.ts'
import { DEFAULT_LIMITS, type EdgeDeps } from '@graft/edge/deps.ts'
import { createFleet } from '@graft/edge/fleet/fleet.ts'
import { openSqliteBooks } from '@graft/edge/node/sqlite-books.ts'
import { generateSigningKey } from '@graft/sdk/format/jws.ts'
import { afterEach } from 'vitest'
import { createRegistryOfTests, digestOf, ISSUER } from './registry.ts'
import { type ScriptedRunner, sendHeartbeat, startScriptedRunner } from './runner.ts'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

export const PRICES = {
  version: 'test-1',
  standard: { input: 10, output: 100, cached: 2, authorShare: 600_000 },
}

/** An edge with a registry that knows a list, real sqlite books in memory, and as many scripted runners as wanted. */
export async function createEdgeOfTests(options: Partial<EdgeDeps> & { grant?: number } = {}) {
  const registry = await createRegistryOfTests()
  const fleetKey = await generateSigningKey()
  const receiptKey = await generateSigningKey()
  const shift = { ms: 0 }
  const clock = () => new Date(Date.now() + shift.ms)
  const books = openSqliteBooks({ path: ':memory:', currency: 'USD', clock })
  cleanups.push(() => books.close())
  const call: typeof fetch = (input, init) =>
    String(input instanceof Request ? input.url : input).startsWith(ISSUER)
      ? registry.fetch(input, init)
      : fetch(input, init)
  const log: Record<string, unknown>[] = []
  let ids = 0
  const deps: EdgeDeps = {
    registryUrl: ISSUER,
    fetch: call,
    issuerName: ISSUER,
    issuer: createIssuerFeed({ registryUrl: ISSUER, fetch: call, clock }),
    books,
    fleet: createFleet(clock),
    fleetKey,
    receiptKey,
    prices: PRICES,
    operatorTenant: 'operator',
    currency: 'USD',
    clock,
    limits: DEFAULT_LIMITS,
    log: (event) => log.push(event),
    randomId: () => `${++ids}`,
    ...options,
  }
  const app = createEdge(deps)
  const base = { name: 'graft-tiny', digest: await digestOf('graft-tiny') }
  const grant = options.grant ?? 1_000_000
  if (grant > 0) await deps.books.book('acme').topUp({ id: 'grant', amount: grant, memo: '' })
  return {
    app,
    deps,
    registry,
    books,
    base,
    log,
    shift,
    fleetKey,
    receiptKey,
    async runner(
      script: ScriptedRunner['script'],
      extra: { id?: string; maxPositions?: number } = {},
    ) {
      const id = extra.id ?? 'runner-1'
      const runner = await startScriptedRunner({ base, ...extra, id, script })
      cleanups.push(() => runner.close())
      const answer = await sendHeartbeat(app, fleetKey, runner.heartbeat())
      if (!answer.ok) throw new Error(await answer.text())
      return runner
    },
    async addAdapter(name: string, readers: string[] | null = null) {
      const digest = await digestOf(name)
      registry.adapters.push({ name, version: '1.2.0', digest, base, readers })
      return digest
    },
    async post(path: string, body: unknown, headers: Record<string, string> = {}) {
      return app.request(path, {
        method: 'POST',
        headers: {
          authorization: `Bearer ${await registry.token()}`,
          'content-type': 'application/json',
          ...headers,
        },
        body: typeof body === 'string' ? body : JSON.stringify(body),
      })
    },
    async get(path: string, token?: string) {
      return app.request(path, {
        headers: { authorization: `Bearer ${token ?? (await registry.token())}` },
      })
    },
    balance: () => books.book('acme').balance(),
  }
}

export const chat = (extra: Record<string, unknown> = {}) => ({
  model: 'graft-tiny',
  messages: [{ role: 'user', content: 'hi' }],
  max_tokens: 16,
  ...extra,
})

/** Every event of an SSE body: its data parsed, its comments as they are. */
export function parseSse(text: string) {
  const blocks = text.split('\n\n').filter((block) => block !== '')
  const data = blocks
    .filter((block) => block.startsWith('data: ') && block !== 'data: [DONE]')
    .map((block) => JSON.parse(block.slice(6)))
  return { blocks, data }
}

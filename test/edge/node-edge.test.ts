import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createNodeEdge } from '@graft/edge/node/create-node-edge.ts'
import { generateSigningKey } from '@graft/sdk/format/jws.ts'
import type { Receipt } from '@graft/sdk/protocol/receipts.ts'
import { afterEach, expect, it } from 'vitest'
import { chat } from './helpers/edge.ts'
import { createRegistryOfTests, digestOf, ISSUER } from './helpers/registry.ts'
import { answerSteps, type Step, sendHeartbeat, startScriptedRunner } from './helpers/runner.ts'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

async function setUp() {
  const stateDir = mkdtempSync(join(tmpdir(), 'graft-edge-'))
  cleanups.push(() => rmSync(stateDir, { recursive: true, force: true }))
  const registry = await createRegistryOfTests()
  const fleetKey = await generateSigningKey()
  const open = () =>
    createNodeEdge({
      stateDir,
      registryUrl: ISSUER,
      issuerName: ISSUER,
      fleetKey,
      operatorTenant: 'operator',
      log: () => {},
      fetch: (input, init) =>
        String(input).startsWith(ISSUER) ? registry.fetch(input, init) : fetch(input, init),
    })
  return { stateDir, registry, fleetKey, open }
}

it('keeps books, receipts and its key over a restart', async () => {
  const { stateDir, registry, fleetKey, open } = await setUp()
  const first = await open()
  const base = { name: 'graft-tiny', digest: await digestOf('graft-tiny') }
  const runner = await startScriptedRunner({ id: 'r', base, script: () => answerSteps(['x']) })
  cleanups.push(() => runner.close())
  await sendHeartbeat(first.app, fleetKey, runner.heartbeat())
  const authorize = async (tenant: string) => ({
    authorization: `Bearer ${await registry.token({ tenant, scopes: ['infer', 'admin'] })}`,
  })
  const post = async (path: string, body: unknown, tenant = 'acme') =>
    first.app.request(path, {
      method: 'POST',
      headers: await authorize(tenant),
      body: JSON.stringify(body),
    })
  const topUp = { tenant: 'acme', amount: 1_000_000, id: 't', memo: '' }
  expect((await post('/v1/ledger/top-ups', topUp, 'operator')).status).toBe(200)
  const answer = await post('/v1/chat/completions', chat())
  expect(answer.status).toBe(200)
  await answer.text()
  const keys = await (await first.app.request('/.well-known/graft-keys.json')).json()
  await first.close()

  const second = await open()
  cleanups.push(() => second.close())
  const again = await (await second.app.request('/.well-known/graft-keys.json')).json()
  expect(again.edge).toEqual(keys.edge)
  const headers = await authorize('acme')
  const balance = await (await second.app.request('/v1/balance', { headers })).json()
  const requestId = answer.headers.get('x-request-id')
  const response = await second.app.request(`/v1/receipts/${requestId}`, { headers })
  const receipt: Receipt = await response.json()
  expect(balance).toMatchObject({ spent: receipt.charged, held: 0 })
  expect(receipt.charged).toBe(5 * 100 + 400)
  expect(statSync(join(stateDir, 'receipt-key.json')).mode & 0o777).toBe(0o600)
})

it('settles a stream that its end cuts before it closes its books', async () => {
  const { registry, fleetKey, open } = await setUp()
  const first = await open()
  const base = { name: 'graft-tiny', digest: await digestOf('graft-tiny') }
  const script = (): Step[] => [
    ...answerSteps(['a', 'b']).slice(0, 3),
    { type: 'wait', ms: 60_000 },
  ]
  const runner = await startScriptedRunner({ id: 'r', base, script })
  cleanups.push(() => runner.close())
  await sendHeartbeat(first.app, fleetKey, runner.heartbeat())
  const send = async (path: string, body: unknown, tenant: string) => {
    const token = await registry.token({ tenant, scopes: ['infer', 'admin'] })
    const headers = { authorization: `Bearer ${token}` }
    return first.app.request(path, { method: 'POST', headers, body: JSON.stringify(body) })
  }
  const topUp = { tenant: 'acme', amount: 1_000_000, id: 't', memo: '' }
  await send('/v1/ledger/top-ups', topUp, 'operator')
  const response = await send('/v1/chat/completions', chat({ stream: true }), 'acme')
  const reader = response.body!.getReader()
  await reader.read()
  await reader.read()
  void reader.cancel()
  await first.close()
  const second = await open()
  cleanups.push(() => second.close())
  const headers = { authorization: `Bearer ${await registry.token()}` }
  const balance = await (await second.app.request('/v1/balance', { headers })).json()
  expect(balance).toMatchObject({ held: 0, spent: 5 * 100 + 400 })
})

it('refuses to start over a damaged receipt key instead of making a new one', async () => {
  const { stateDir, open } = await setUp()
  await (await open()).close()
  const path = join(stateDir, 'receipt-key.json')
  const whole = readFileSync(path, 'utf8')
  chmodSync(path, 0o600)
  writeFileSync(path, whole.slice(0, 20))
  await expect(open()).rejects.toMatchObject({ code: 'ERR_STATE_DAMAGED' })
})

it('serves health and metrics without a token', async () => {
  const { open } = await setUp()
  const edge = await open()
  cleanups.push(() => edge.close())
  expect((await edge.app.request('/healthz')).status).toBe(200)
  const metrics = await (await edge.app.request('/metrics')).text()
  expect(metrics).toContain('# TYPE graft_edge_requests_total counter')
  expect(metrics).toMatch(/graft_edge_requests_total\{path="\/healthz",status="200"\} 1/)
  expect(metrics).toContain('graft_edge_runners 0')
})

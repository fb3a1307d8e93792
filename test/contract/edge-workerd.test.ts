import { verifyCompact } from '@graft/sdk/format/jws.ts'
import type { Receipt } from '@graft/sdk/protocol/receipts.ts'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { chat, parseSse } from '../edge/helpers/edge.ts'
import { digestOf } from '../edge/helpers/registry.ts'
import {
  answerSteps,
  type Step,
  sendHeartbeat,
  startScriptedRunner,
  tokenSteps,
} from '../edge/helpers/runner.ts'
import { booksContract } from './edge-books.ts'
import { openWorkerd } from './edge-workerd.ts'

let worker: Awaited<ReturnType<typeof openWorkerd>>
beforeAll(async () => {
  worker = await openWorkerd()
})
afterAll(() => worker.close())

let rooms = 0
booksContract('Durable Objects in workerd', async () => ({
  books: worker.books(`room-${++rooms}`),
  close: () => {},
}))

describe('the edge in workerd', () => {
  async function setUp(script: () => Step[]) {
    const base = { name: 'graft-tiny', digest: await digestOf('graft-tiny') }
    const runner = await startScriptedRunner({ id: `runner-${++rooms}`, base, script })
    const beat = (draining: boolean) =>
      sendHeartbeat(worker.app, worker.fleetKey, { ...runner.heartbeat(), draining })
    expect((await beat(false)).status).toBe(200)
    // An isolate believes its last look at the fleet for a second.
    await new Promise((resolve) => setTimeout(resolve, 1_100))
    const authorize = async (tenant: string) => ({
      authorization: `Bearer ${await worker.registry.token({ tenant, scopes: ['infer', 'admin'] })}`,
    })
    const post = async (path: string, body: unknown, tenant = 'acme') =>
      worker.app.request(path, {
        method: 'POST',
        headers: await authorize(tenant),
        body: JSON.stringify(body),
      })
    const topUp = { tenant: 'acme', amount: 10_000_000, id: 'grant', memo: '' }
    expect((await post('/v1/ledger/top-ups', topUp, 'operator')).status).toBe(200)
    const get = async (path: string) =>
      (await worker.app.request(path, { headers: await authorize('acme') })).json()
    return {
      runner,
      post,
      get,
      async end() {
        await beat(true)
        await runner.close()
      },
    }
  }

  it('answers, streams, settles in the tenant object and signs a receipt', async () => {
    const { post, get, end } = await setUp(() => answerSteps(['Hel', 'lo']))
    const before = (await get('/v1/balance')).spent
    const whole = await post('/v1/chat/completions', chat())
    expect((await whole.json()).choices[0].message.content).toBe('Hello')
    const streamed = await post('/v1/chat/completions', chat({ stream: true }))
    const { blocks } = parseSse(await streamed.text())
    expect(blocks.at(-1)).toBe('data: [DONE]')
    const keys = await get('/.well-known/graft-keys.json')
    const compact = blocks.at(-2)!.replace(': graft-receipt ', '')
    const { payload } = await verifyCompact<Receipt>(compact, 'graft-receipt+jws', keys.edge)
    expect(payload).toMatchObject({ outcome: 'complete', charged: 5 * 100 + 2 * 400 })
    expect(await get(`/v1/receipts/${payload.requestId}`)).toMatchObject({ receipt: compact })
    expect(await get('/v1/balance')).toMatchObject({ held: 0, spent: before + 2 * payload.charged })
    await end()
  })

  it('stops the runner and settles what was sent when the client goes away', async () => {
    const steps = tokenSteps(Array.from({ length: 400 }, () => 'x')).flatMap((step): Step[] => [
      step,
      { type: 'wait', ms: 10 },
    ])
    const { runner, post, get, end } = await setUp(() => [
      { type: 'accepted', promptTokens: 5, cachedTokens: 0 },
      ...steps,
      { type: 'done!' },
    ])
    const response = await post('/v1/chat/completions', chat({ stream: true, max_tokens: 400 }))
    const reader = response.body!.getReader()
    let text = ''
    while (!text.includes('"x"')) text += new TextDecoder().decode((await reader.read()).value)
    await reader.cancel()
    while (runner.cancelledAt.length === 0) await new Promise((r) => setTimeout(r, 10))
    expect(runner.framesSent).toBeLessThan(300)
    while ((await get('/v1/balance')).held > 0) await new Promise((r) => setTimeout(r, 10))
    const receipt = await get(`/v1/receipts/${response.headers.get('x-request-id')}`)
    expect(receipt.outcome).toBe('client_abort')
    expect(receipt.billed.completion).toBeGreaterThan(0)
    expect(receipt.billed.completion).toBeLessThanOrEqual(runner.framesSent)
    await end()
  })
})

import { priceOf, sharesOf } from '@graft/edge/ledger/prices.ts'
import { type TenantBook, tenantBook } from '@graft/edge/ledger/tenant-book.ts'
import { decodeUnverified, verifyCompact } from '@graft/sdk/format/jws.ts'
import type { Receipt, RunnerReceipt } from '@graft/sdk/protocol/receipts.ts'
import { requestHash } from '@graft/sdk/protocol/request-hash.ts'
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { chat, createEdgeOfTests, parseSse } from './helpers/edge.ts'
import { answerSteps, type Step, tokenSteps } from './helpers/runner.ts'

const accepted: Step = { type: 'accepted', promptTokens: 5, cachedTokens: 0 }

it('signs a receipt that verifies offline and binds request, bytes, tokens and money', async () => {
  const edge = await createEdgeOfTests()
  const runner = await edge.runner(() => answerSteps(['a', 'b']))
  const digest = await edge.addAdapter('@acme/sql')
  const response = await edge.post('/v1/chat/completions', chat({ model: '@acme/sql@^1' }))
  const keys = await (await edge.app.request('/.well-known/graft-keys.json')).json()
  const compact = response.headers.get('x-graft-receipt')!
  const { payload } = await verifyCompact<Receipt>(compact, 'graft-receipt+jws', keys.edge)
  expect(payload).toMatchObject({
    requestId: response.headers.get('x-request-id'),
    tenant: 'acme',
    model: '@acme/sql@^1',
    outcome: 'complete',
    billed: { prompt: 5, cached: 0, completion: 2 },
    price: { version: 'test-1', input: 10, output: 100, cached: 2 },
    charged: 250,
    currency: 'USD',
  })
  const inner = await verifyCompact<RunnerReceipt>(
    payload.runner!,
    'graft-runner-receipt+jws',
    keys.runners,
  )
  expect(inner.payload).toMatchObject({
    base: edge.base.digest,
    adapters: [{ digest, weight: '1' }],
    requestHash: await requestHash(runner.requests[0]!),
  })
  const stored = await (await edge.get(`/v1/receipts/${payload.requestId}`)).json()
  expect(stored).toEqual({ receipt: compact, ...payload })
})

it('shows a receipt to nobody but its tenant', async () => {
  const edge = await createEdgeOfTests()
  await edge.runner(() => answerSteps(['a']))
  const response = await edge.post('/v1/chat/completions', chat())
  const path = `/v1/receipts/${response.headers.get('x-request-id')}`
  const stranger = await edge.get(path, await edge.registry.token({ tenant: 'globex' }))
  expect([stranger.status, (await stranger.json()).error.code]).toEqual([
    404,
    'ERR_RECEIPT_UNKNOWN',
  ])
})

it('pays authors by the absolute weight of their adapters and the platform the rest', async () => {
  const edge = await createEdgeOfTests()
  await edge.runner(() => answerSteps(['a']))
  await edge.addAdapter('@ada/x')
  await edge.addAdapter('@bob/y')
  await edge.post('/v1/chat/completions', chat({ model: '1.5(@ada/x)+-0.5(@bob/y)' }))
  const token = await edge.registry.token({ scopes: ['ledger'] })
  const { entries } = await (await edge.get('/v1/ledger/entries?after=0', token)).json()
  // 5 x 10 + 100 = 150, of which authors get 60%: 0.75 and 0.25 of it, rounded down.
  expect(entries.at(-1)).toMatchObject({
    type: 'settle',
    postings: expect.arrayContaining([
      { account: 'author:ada', amount: 67 },
      { account: 'author:bob', amount: 22 },
      { account: 'platform', amount: 61 },
    ]),
  })
  expect(await (await edge.get('/v1/ledger/entries?after=2', token)).json()).toMatchObject({
    entries: [{ id: 3 }],
  })
})

it('splits a charge exactly, whatever the weights', () =>
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.integer({ min: 1, max: 10 ** 10 }), fc.boolean()), {
        minLength: 1,
        maxLength: 16,
      }),
      fc.integer({ min: 0, max: 1_000_000 }),
      fc.integer({ min: 0, max: 2 ** 52 }),
      (weights, authorShare, charged) => {
        const list = { version: '1', standard: { input: 1, output: 1, cached: 1, authorShare } }
        const adapters = weights.map(([billionths, minus], i) => ({
          package: `@org${i}/x`,
          weight: `${minus ? '-' : ''}${Math.floor(billionths / 1e9)}.${String(billionths % 1e9).padStart(9, '0')}`,
          digest: `sha256:${'0'.repeat(64)}` as never,
        }))
        const shares = sharesOf(priceOf(list, 'b', adapters), charged)
        expect(shares.reduce((sum, { amount }) => sum + BigInt(amount), 0n)).toBe(BigInt(charged))
        const total = weights.reduce((sum, [weight]) => sum + weight, 0)
        for (const [i, [weight]] of weights.entries()) {
          const fair = (charged * authorShare * weight) / (total * 1e6)
          expect(shares[i]!.amount).toBeLessThanOrEqual(fair + 1)
          // At most a millionth of the charge and a nano-unit are lost to rounding down.
          expect(shares[i]!.amount).toBeGreaterThanOrEqual(fair - charged / 1e6 - 2)
        }
      },
    ),
  ))

it('charges cached prompt tokens at their own price', async () => {
  const edge = await createEdgeOfTests()
  await edge.runner(() => [
    { type: 'accepted', promptTokens: 5, cachedTokens: 4 },
    ...tokenSteps(['a']),
    { type: 'finish', choice: 0, reason: 'stop', stop: null },
    { type: 'done!' },
  ])
  await edge.post('/v1/chat/completions', chat())
  expect(await edge.balance()).toMatchObject({ spent: 1 * 10 + 4 * 2 + 100 })
})

it('answers 402 without a balance and asks no runner', async () => {
  const edge = await createEdgeOfTests({ grant: 0 })
  const runner = await edge.runner(() => answerSteps(['a']))
  const response = await edge.post('/v1/chat/completions', chat({ stream: true }))
  const { error } = await response.json()
  expect([response.status, error.code, error.type]).toEqual([
    402,
    'ERR_NO_BALANCE',
    'insufficient_quota',
  ])
  expect(runner.requests).toHaveLength(0)
})

it('counts a prompt before it refuses it for a bound that is only a bound', async () => {
  // The bound of "hi" is 275 tokens with its template; the runner counts 5.
  const edge = await createEdgeOfTests({ grant: 5 * 10 + 16 * 100 })
  await edge.runner(() => answerSteps(['a']))
  expect((await edge.post('/v1/chat/completions', chat())).status).toBe(200)
})

it('extends the hold while it streams and ends in band when the balance is used up', async () => {
  const pieces = Array.from({ length: 2_000 }, () => 'x')
  const grant = 300 * 10 + 1_200 * 100
  const edge = await createEdgeOfTests({ grant })
  const runner = await edge.runner(() => answerSteps(pieces), { maxPositions: 4_096 })
  const response = await edge.post(
    '/v1/chat/completions',
    chat({ stream: true, max_tokens: 2_000 }),
  )
  const { blocks, data } = parseSse(await response.text())
  expect(data.at(-1)).toMatchObject({
    error: { code: 'ERR_NO_BALANCE', type: 'insufficient_quota' },
  })
  expect(blocks.at(-1)).not.toBe('data: [DONE]')
  const told = data.filter(({ choices }) => choices?.[0].delta.content === 'x').length
  const balance = await edge.balance()
  expect(balance).toMatchObject({ held: 0, spent: 5 * 10 + told * 100 })
  expect(balance.spent).toBeLessThanOrEqual(grant)
  // To the last token: what is left would not pay one more.
  expect(balance.available).toBeLessThan(100)
  expect(runner.requests).toHaveLength(1)
  const receipt = await edge.get(`/v1/receipts/${response.headers.get('x-request-id')}`)
  expect(await receipt.json()).toMatchObject({
    outcome: 'insufficient_quota',
    billed: { completion: told },
  })
})

it('grants parallel calls no more than the balance bears', async () => {
  const price = 5 * 10 + 16 * 100
  const edge = await createEdgeOfTests({ grant: price * 6 + 75 })
  await edge.runner(() => answerSteps(Array.from({ length: 16 }, () => 'x')))
  // Every hold is of the counted prompt here, because the bound is refused first.
  const calls = Array.from({ length: 20 }, () => edge.post('/v1/chat/completions', chat()))
  const statuses = (await Promise.all(calls)).map(({ status }) => status)
  const served = statuses.filter((status) => status === 200).length
  expect(statuses.every((status) => status === 200 || status === 402)).toBe(true)
  const { available, held, spent } = await edge.balance()
  expect(spent).toBe(served * price)
  expect(held).toBe(0)
  expect(available).toBeGreaterThanOrEqual(0)
  expect(served).toBeLessThanOrEqual(6)
})

it('bills a client that goes away for the tokens it was sent, and stops the runner', async () => {
  const edge = await createEdgeOfTests()
  const steps = tokenSteps(Array.from({ length: 200 }, () => 'x')).flatMap((step): Step[] => [
    step,
    { type: 'wait', ms: 10 },
  ])
  const runner = await edge.runner(() => [accepted, ...steps, { type: 'done!' }])
  const response = await edge.post('/v1/chat/completions', chat({ stream: true }))
  const reader = response.body!.getReader()
  let text = ''
  while (!text.includes('"x"')) text += new TextDecoder().decode((await reader.read()).value)
  const left = performance.now()
  await reader.cancel()
  while (runner.cancelledAt.length === 0) await new Promise((r) => setTimeout(r, 5))
  expect(runner.cancelledAt[0]! - left).toBeLessThan(500)
  expect(runner.framesSent).toBeLessThan(100)
  const requestId = response.headers.get('x-request-id')
  const receipt = await (await edge.get(`/v1/receipts/${requestId}`)).json()
  expect(receipt).toMatchObject({ outcome: 'client_abort', runner: null })
  const { completion } = receipt.billed
  // What was taken, and at most the one frame that was on its way.
  const taken = text.split('"content":"x"').length - 1
  expect([taken, taken + 1]).toContain(completion)
  expect(await edge.balance()).toMatchObject({ held: 0, spent: 5 * 10 + completion * 100 })
})

it('settles a stream that is dropped before anybody reads from it', async () => {
  const edge = await createEdgeOfTests()
  const steps = tokenSteps(['x', 'x', 'x']).flatMap((step): Step[] => [
    step,
    { type: 'wait', ms: 20 },
  ])
  const runner = await edge.runner(() => [accepted, ...steps, { type: 'done!' }])
  const response = await edge.post('/v1/chat/completions', chat({ stream: true }))
  await response.body!.cancel()
  while (runner.cancelledAt.length === 0) await new Promise((r) => setTimeout(r, 5))
  const until = performance.now() + 2_000
  while ((await edge.balance()).held !== 0 && performance.now() < until)
    await new Promise((r) => setTimeout(r, 5))
  expect(await edge.balance()).toMatchObject({ held: 0 })
})

it('counts calls, tokens and money for a scraper', async () => {
  const edge = await createEdgeOfTests()
  await edge.runner(() => answerSteps(['a', 'b']))
  await edge.post('/v1/chat/completions', chat())
  const text = await (await edge.app.request('/metrics')).text()
  expect(text).toContain('graft_edge_calls_total{outcome="complete"} 1\n')
  expect(text).toContain('graft_edge_tokens_total{kind="completion"} 2\n')
  expect(text).toContain('graft_edge_charged_nanos_total 250\n')
  expect(text).toContain('graft_edge_first_token_seconds_count 1\n')
})

it('stops and bills a client that does not read, before its hold can expire', async () => {
  const limits = {
    concurrency: 8,
    requestsPerMinute: 100,
    bodyBytes: 10_000,
    runnerIdleMs: 5_000,
    callMs: 200,
  }
  const edge = await createEdgeOfTests({ limits })
  await edge.runner(() => answerSteps(['a', 'b', 'c']))
  const response = await edge.post('/v1/chat/completions', chat({ stream: true }))
  const reader = response.body!.getReader()
  await reader.read()
  await new Promise((resolve) => setTimeout(resolve, 300))
  // The role chunk was read; the first token was on its way.
  expect(await edge.balance()).toMatchObject({ held: 0, spent: 5 * 10 + 100 })
  const rest = new TextDecoder().decode((await reader.read()).value)
  expect(rest).toContain('"code":"ERR_DEADLINE"')
  expect((await reader.read()).done).toBe(true)
})

it('answers 503 and asks no runner while the ledger cannot be used', async () => {
  const broken = tenantBook(async () => {
    throw new Error('the disk is full')
  })
  const edge = await createEdgeOfTests({ books: { book: () => broken }, grant: 0 })
  const runner = await edge.runner(() => answerSteps(['a']))
  const response = await edge.post('/v1/chat/completions', chat())
  expect([response.status, (await response.json()).error.code]).toEqual([
    503,
    'ERR_LEDGER_UNAVAILABLE',
  ])
  expect(runner.requests).toHaveLength(0)
})

/** A book whose settle fails this many times; with `lost`, after it has done its work. */
function failingSettle(book: TenantBook, times: number, lost: boolean): TenantBook {
  let left = times
  return {
    ...book,
    async settle(settlement) {
      if (left-- <= 0) return book.settle(settlement)
      if (lost) await book.settle(settlement)
      throw new Error('the connection to the book broke')
    },
  }
}

it.each([
  ['fails once before it is done', 1, false],
  ['is done but its answer is lost', 1, true],
])('settles once when the settle %s', async (_, times, lost) => {
  const plain = await createEdgeOfTests()
  const book = failingSettle(plain.books.book('acme'), times, lost)
  const edge = await createEdgeOfTests({ books: { book: () => book } })
  await edge.runner(() => answerSteps(['a']))
  expect((await edge.post('/v1/chat/completions', chat())).status).toBe(200)
  expect(await plain.balance()).toMatchObject({ held: 0, spent: 150 })
})

it('charges nothing and says so when the settle cannot be done at all', async () => {
  const plain = await createEdgeOfTests()
  const book = failingSettle(plain.books.book('acme'), 99, false)
  const edge = await createEdgeOfTests({ books: { book: () => book } })
  await edge.runner(() => answerSteps(['a']))
  const response = await edge.post('/v1/chat/completions', chat({ stream: true }))
  const { data } = parseSse(await response.text())
  expect(data.at(-1).error.code).toBe('ERR_LEDGER_UNAVAILABLE')
  // The hold is still there, as after a crash, and comes back by itself.
  expect(await plain.balance()).toMatchObject({ spent: 0, held: expect.any(Number) })
  expect(plain.books.expireDue(Date.now() + 120_000)).toBe(1)
  expect(await plain.balance()).toMatchObject({ available: 1_000_000, held: 0, spent: 0 })
})

it('replays an answer for its Idempotency-Key and charges once', async () => {
  const edge = await createEdgeOfTests()
  const runner = await edge.runner(() => answerSteps(['a']))
  const headers = { 'idempotency-key': 'k1' }
  for (const stream of [false, true]) {
    const body = chat({ stream })
    const key = { 'idempotency-key': `k-${stream}` }
    const first = await (await edge.post('/v1/chat/completions', body, key)).text()
    const again = await edge.post('/v1/chat/completions', body, key)
    expect(again.headers.get('idempotent-replayed')).toBe('true')
    expect(again.headers.get('x-graft-base')).toBe(edge.base.digest)
    expect(await again.text()).toBe(first)
  }
  expect(runner.requests).toHaveLength(2)
  expect(await edge.balance()).toMatchObject({ spent: 300 })
  await (await edge.post('/v1/chat/completions', chat(), headers)).text()
  const other = await edge.post('/v1/chat/completions', chat({ seed: 1 }), headers)
  expect([other.status, (await other.json()).error.code]).toEqual([422, 'ERR_IDEMPOTENCY_MISMATCH'])
})

it('refuses a repeat while the first call is in flight, and lets a failed call be repeated', async () => {
  const edge = await createEdgeOfTests()
  let calls = 0
  await edge.runner(() =>
    calls++ === 0 ? [accepted, { type: 'wait', ms: 200 }, { type: 'cut' }] : answerSteps(['a']),
  )
  const headers = { 'idempotency-key': 'k1' }
  const first = edge.post('/v1/chat/completions', chat(), headers)
  await new Promise((resolve) => setTimeout(resolve, 100))
  const second = await edge.post('/v1/chat/completions', chat(), headers)
  expect([second.status, (await second.json()).error.code]).toEqual([
    409,
    'ERR_IDEMPOTENCY_IN_FLIGHT',
  ])
  expect((await first).status).toBe(502)
  const third = await edge.post('/v1/chat/completions', chat(), headers)
  expect(third.status).toBe(200)
  await third.text()
})

it('limits calls per minute and calls at once, with a Retry-After that is true', async () => {
  const limits = {
    concurrency: 2,
    requestsPerMinute: 3,
    bodyBytes: 10_000,
    runnerIdleMs: 5_000,
    callMs: 5_000,
  }
  const edge = await createEdgeOfTests({ limits })
  const runner = await edge.runner(() => [
    accepted,
    { type: 'wait', ms: 100 },
    ...answerSteps(['a']).slice(1),
  ])
  const open = await Promise.all([1, 2, 3].map(() => edge.post('/v1/chat/completions', chat())))
  expect(open.map(({ status }) => status).sort()).toEqual([200, 200, 429])
  expect(open[0]!.headers.get('x-ratelimit-limit-requests')).toBe('3')
  expect(open[0]!.headers.get('x-ratelimit-remaining-requests')).toBe('2')
  await Promise.all(open.map((response) => response.text()))
  const limited = await edge.post('/v1/chat/completions', chat())
  expect(limited.status).toBe(429)
  const retryAfter = Number(limited.headers.get('retry-after'))
  expect(retryAfter).toBeGreaterThan(50)
  edge.shift.ms = retryAfter * 1_000
  await edge.deps.fleet.heartbeat(runner.heartbeat())
  const later = await edge.post('/v1/chat/completions', chat())
  expect(later.status).toBe(200)
  expect(decodeUnverified<Receipt>(later.headers.get('x-graft-receipt')!).payload.charged).toBe(150)
})

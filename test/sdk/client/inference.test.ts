import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { DEFAULT_LIMITS } from '@graft/edge/deps.ts'
import { createInferenceClient } from '@graft/sdk/client/inference-client.ts'
import { createLedgerClient } from '@graft/sdk/client/ledger-client.ts'
import { verifyReceipt } from '@graft/sdk/client/verify-receipt.ts'
import type { ReceiptKeys } from '@graft/sdk/protocol/receipts.ts'
import { afterEach, expect, it } from 'vitest'
import { createEdgeOfTests } from '../../edge/helpers/edge.ts'
import { listen } from '../../edge/helpers/listen.ts'
import { answerSteps, type Step, tokenSteps } from '../../edge/helpers/runner.ts'

const closing: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closing.splice(0)) await close()
})

const accepted: Step = { type: 'accepted', promptTokens: 5, cachedTokens: 0 }
const code = (wanted: string) => expect.objectContaining({ code: wanted })
const prompt = { model: 'graft-tiny', prompt: 'p', max_tokens: 8 }
const messages = [{ role: 'user' as const, content: 'hi' }]

/** The real edge on a socket; only the runner is told what to say. */
async function open(options: Parameters<typeof createEdgeOfTests>[0] = {}) {
  const edge = await createEdgeOfTests(options)
  const server = await listen(edge.app)
  closing.push(server.close)
  const token = await edge.registry.token({ scopes: ['infer', 'ledger'] })
  const settings = { url: server.url, token, retries: 0 }
  return { edge, settings, client: createInferenceClient(settings) }
}

/** A server that writes exactly what a test says, to break protocols with. */
async function raw(
  handle: (n: number, response: import('node:http').ServerResponse, key: string) => void,
) {
  let calls = 0
  const keys: string[] = []
  const server = createServer((request, response) => {
    keys.push(String(request.headers['idempotency-key']))
    request.resume()
    request.on('end', () => handle(++calls, response, keys.at(-1)!))
  })
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  closing.push(() => {
    server.closeAllConnections()
    return new Promise((done) => server.close(done))
  })
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return { url, keys, calls: () => calls }
}
const sse = { 'content-type': 'text/event-stream', 'x-request-id': 'req_1' }
const chunk = (text: string) =>
  `data: ${JSON.stringify({ id: 'cmpl-req_1', choices: [{ index: 0, text }] })}\n\n`

it('answers whole, with text, usage and a receipt that was verified', async () => {
  const { edge, client } = await open()
  await edge.runner(() => answerSteps(['Hel', 'lo']))
  const digest = await edge.addAdapter('@acme/sql')
  const answer = await client.completions.create({ ...prompt, model: '@acme/sql@^1' })
  expect(answer).toMatchObject({
    text: 'Hello',
    base: edge.base.digest,
    adapters: [digest],
    proof: {
      receipt: { requestId: answer.requestId, charged: 5 * 10 + 2 * 100 },
      runner: { adapters: [{ digest, weight: '1' }] },
    },
  })
  const chat = await client.chat.create({ model: 'graft-tiny', messages })
  expect(chat.body.choices[0]!.message.content).toBe('Hello')
  expect(chat.text).toBe('Hello')
})

it('streams text as it comes, then usage and the receipt', async () => {
  const { edge, client, settings } = await open()
  await edge.runner(() => answerSteps(['Hel', 'lo']))
  const stream = await client.completions.create({ ...prompt, stream: true })
  expect(stream.usage).toBeNull()
  const pieces: string[] = []
  for await (const { choices } of stream) if (choices[0]?.text) pieces.push(choices[0].text)
  expect(pieces).toEqual(['Hel', 'lo'])
  expect(stream.usage).toMatchObject({ prompt_tokens: 5, completion_tokens: 2 })
  const keys = (await (
    await fetch(`${settings.url}/.well-known/graft-keys.json`)
  ).json()) as ReceiptKeys
  const { receipt } = await verifyReceipt(await stream.receipt, keys)
  expect(receipt).toEqual((await stream.proof).receipt)
  expect(receipt.requestId).toBe(stream.requestId)
  const kept = await createLedgerClient(settings).receipt(stream.requestId)
  expect(kept).toMatchObject({ compact: await stream.receipt, receipt: { charged: 250 } })
  const chat = await client.chat.create({ model: 'graft-tiny', messages, stream: true })
  expect(await chat.text()).toBe('Hello')
  expect(() => [...[chat[Symbol.asyncIterator](), chat[Symbol.asyncIterator]()]]).toThrow(
    code('ERR_REQUEST_INVALID'),
  )
})

it('verifies the receipt of a stream that a second runner continued', async () => {
  const { edge, client } = await open()
  const half: Step[] = [accepted, ...tokenSteps(['Hel']), { type: 'cut' }]
  let asked = 0
  const script = (request: { resume?: unknown }) => {
    asked++
    return request.resume ? answerSteps(['lo']) : half
  }
  await edge.runner(script, { id: 'runner-1' })
  await edge.runner(script, { id: 'runner-2' })
  const stream = await client.completions.create({ ...prompt, stream: true })
  expect(await stream.text()).toBe('Hello')
  expect(asked).toBe(2)
  expect((await stream.proof).receipt).toMatchObject({ resumed: 1, billed: { completion: 2 } })
})

it('takes a failure inside a stream as the error it is', async () => {
  const { edge, client } = await open()
  await edge.runner(() => [accepted, ...tokenSteps(['Hel']), { type: 'cut' }])
  const stream = await client.completions.create({ ...prompt, stream: true })
  await expect(stream.text()).rejects.toThrow(code('ERR_RUNNER_FAILED'))
  await expect(stream.receipt).rejects.toThrow(code('ERR_RUNNER_FAILED'))
})

it.each([
  ['a bare close', (r: import('node:http').ServerResponse) => r.end()],
  ['a dropped connection', (r: import('node:http').ServerResponse) => r.destroy()],
])('never takes %s for the end of a stream', async (_, end) => {
  const { url } = await raw((_, response) => {
    response.writeHead(200, sse)
    response.write(chunk('Hel'), () => setTimeout(() => end(response), 20))
  })
  const client = createInferenceClient({ url, token: 't' })
  const stream = await client.completions.create({ ...prompt, stream: true })
  let text = ''
  await expect(
    (async () => {
      for await (const { choices } of stream) text += choices[0]?.text
    })(),
  ).rejects.toThrow(code('ERR_STREAM_TRUNCATED'))
  expect(text).toBe('Hel')
  await expect(stream.receipt).rejects.toThrow(code('ERR_STREAM_TRUNCATED'))
})

it('reports a complete stream without a receipt, and gives its text', async () => {
  const { url } = await raw((_, response) => {
    response.writeHead(200, sse)
    response.end(`${chunk('Hi')}data: [DONE]\n\n`)
  })
  const client = createInferenceClient({ url, token: 't' })
  const stream = await client.completions.create({ ...prompt, stream: true })
  expect(await stream.text()).toBe('Hi')
  await expect(stream.receipt).rejects.toThrow(code('ERR_RECEIPT_INVALID'))
})

it('stops the runner when the loop is left, and when aborted', async () => {
  const { edge, client } = await open()
  const slow: Step[] = [accepted, ...tokenSteps(['a']), { type: 'wait', ms: 5_000 }]
  const runner = await edge.runner(() => slow)
  const left = await client.completions.create({ ...prompt, stream: true })
  for await (const _ of left) break
  await expect.poll(() => runner.cancelledAt.length).toBe(1)
  await expect(left.receipt).rejects.toThrow(code('ERR_CANCELLED'))
  const aborted = await client.completions.create({ ...prompt, stream: true })
  setTimeout(() => aborted.abort(), 20)
  await expect(aborted.text()).rejects.toThrow(code('ERR_CANCELLED'))
  await expect.poll(() => runner.cancelledAt.length).toBe(2)
  const signal = AbortSignal.timeout(20)
  const call = client.completions.create({ ...prompt }, { signal })
  await expect(call).rejects.toThrow(code('ERR_CANCELLED'))
})

it('keeps one Idempotency-Key over its retries, and a new one per call', async () => {
  const { url, keys } = await raw((n, response) => {
    if (n === 1) return void response.destroy()
    if (n === 2) {
      response.writeHead(503, { 'retry-after': '0' })
      return void response.end('{"error":{"code":"ERR_NO_RUNNER","message":"none"}}')
    }
    response.writeHead(200, sse)
    response.end(`${chunk('Hi')}data: [DONE]\n\n`)
  })
  const client = createInferenceClient({ url, token: 't' })
  for (const _ of [1, 2]) {
    const stream = await client.completions.create({ ...prompt, stream: true })
    await stream.text()
  }
  expect(keys).toHaveLength(4)
  expect(new Set(keys.slice(0, 3)).size).toBe(1)
  expect(keys[0]).toMatch(/^[0-9a-f-]{36}$/)
  expect(keys[3]).not.toBe(keys[0])
})

it('gets the kept answer of a repeated key, its receipt verified, and pays once', async () => {
  const { edge, client } = await open()
  const runner = await edge.runner(() => answerSteps(['a']))
  const first = await client.completions.create(prompt, { idempotencyKey: 'k' })
  const again = await client.completions.create(prompt, { idempotencyKey: 'k' })
  expect([again.requestId, again.receipt]).toEqual([first.requestId, first.receipt])
  expect(runner.requests).toHaveLength(1)
  expect((await edge.balance()).spent).toBe(first.proof.receipt.charged)
})

it('tells the three waits apart', async () => {
  const { url } = await raw((n, response) => {
    if (n === 1) return
    response.writeHead(200, sse)
    response.flushHeaders()
    if (n === 3) response.write(chunk('a'))
  })
  const timeouts = { connect: 1_000, firstToken: 150, idle: 100 }
  const client = createInferenceClient({ url, token: 't', timeouts })
  const ask = async () => (await client.completions.create({ ...prompt, stream: true })).text()
  await expect(ask()).rejects.toThrow('waiting for an answer took longer than 1000 ms')
  await expect(ask()).rejects.toThrow('waiting for more of the answer took longer than 150 ms')
  await expect(ask()).rejects.toThrow('waiting for more of the answer took longer than 100 ms')
})

it("passes the edge's refusals on by code", async () => {
  const { edge, client, settings } = await open({ grant: 0 })
  await expect(client.completions.create(prompt)).rejects.toThrow(code('ERR_NO_RUNNER'))
  await edge.runner(() => answerSteps(['a']))
  await expect(client.completions.create(prompt)).rejects.toThrow(code('ERR_NO_BALANCE'))
  const unknown = client.completions.create({ ...prompt, model: '@no/such@1' })
  await expect(unknown).rejects.toMatchObject({ exit: 3 })
  const stranger = createInferenceClient({ ...settings, token: 'nonsense' })
  await expect(stranger.models.list()).rejects.toThrow(code('ERR_UNAUTHENTICATED'))
  const nobody = createInferenceClient({ ...settings, url: 'http://127.0.0.1:9' })
  await expect(nobody.models.list()).rejects.toThrow(code('ERR_UNREACHABLE'))
})

it('ends a stream whose money ran out with ERR_NO_BALANCE', async () => {
  const limits = { ...DEFAULT_LIMITS }
  const { edge, client } = await open({ grant: 60_000, limits })
  const many = Array.from({ length: 1200 }, () => 'x')
  await edge.runner(() => answerSteps(many))
  const stream = client.completions.create({ ...prompt, max_tokens: 2_000, stream: true })
  await expect(stream.then((s) => s.text())).rejects.toThrow(code('ERR_NO_BALANCE'))
})

it('lists models and reads the book', async () => {
  const { edge, client, settings } = await open()
  await edge.runner(() => answerSteps(['a']))
  expect((await client.models.list()).data.map(({ id }) => id)).toEqual(['graft-tiny'])
  await client.completions.create(prompt)
  const ledger = createLedgerClient(settings)
  const { entries } = await ledger.entries()
  expect(entries.map(({ type }) => type)).toEqual(['top_up', 'hold', 'settle'])
  expect((await ledger.entries({ after: entries.at(-1)!.id })).entries).toEqual([])
  expect(await ledger.balance()).toMatchObject({ tenant: 'acme', spent: 150, held: 0 })
  const operator = await edge.registry.token({ tenant: 'operator', scopes: ['admin'] })
  const top = createLedgerClient({ ...settings, token: operator })
  const request = { tenant: 'acme', amount: 7, id: 'seven', memo: '' }
  const after = await top.topUp(request)
  expect(await top.topUp(request)).toEqual(after)
})

import OpenAI, {
  APIError,
  APIUserAbortError,
  AuthenticationError,
  BadRequestError,
  InternalServerError,
  NotFoundError,
  RateLimitError,
} from 'openai'
import { afterEach, expect, it } from 'vitest'
import { createEdgeOfTests } from './helpers/edge.ts'
import { listen } from './helpers/listen.ts'
import { answerSteps, type Step, tokenSteps } from './helpers/runner.ts'

const closing: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const close of closing.splice(0)) await close()
})

/** The unmodified client of OpenAI against an edge that listens on a socket. */
async function createClient(options: Parameters<typeof createEdgeOfTests>[0] = {}) {
  const edge = await createEdgeOfTests(options)
  const server = await listen(edge.app)
  closing.push(server.close)
  const connect = (apiKey: string) =>
    new OpenAI({ apiKey, baseURL: `${server.url}/v1`, maxRetries: 0 })
  return { edge, connect, client: connect(await edge.registry.token()) }
}
const messages = [{ role: 'user' as const, content: 'hi' }]
const accepted: Step = { type: 'accepted', promptTokens: 5, cachedTokens: 0 }

it('lists and retrieves models', async () => {
  const { edge, client } = await createClient()
  await edge.runner(() => answerSteps(['x']))
  await edge.addAdapter('@acme/sql')
  const ids = []
  for await (const model of client.models.list()) ids.push(model.id)
  expect(ids).toEqual(['graft-tiny', '@acme/sql@1.2.0'])
  expect(await client.models.retrieve('@acme/sql@^1')).toMatchObject({ id: '@acme/sql@^1' })
})

it('reads a chat, a completion, and their streams with usage', async () => {
  const { edge, client } = await createClient()
  await edge.runner(() => answerSteps(['Hel', 'lo']))
  const model = 'graft-tiny'
  const { data, response, request_id } = await client.chat.completions
    .create({ model, messages, max_tokens: 8 })
    .withResponse()
  expect(data.choices[0]!.message.content).toBe('Hello')
  expect(request_id).toBe(response.headers.get('x-request-id'))
  const completion = await client.completions.create({ model, prompt: 'p' })
  expect(completion.choices[0]!.text).toBe('Hello')

  const stream_options = { include_usage: true }
  const stream = await client.chat.completions.create({
    ...{ model, messages, stream_options },
    max_tokens: 8,
    stream: true,
  })
  let text = ''
  let usage = null
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? ''
    usage = chunk.usage ?? usage
  }
  expect([text, usage?.total_tokens]).toEqual(['Hello', 7])

  const helper = client.chat.completions.stream({ model, messages, max_tokens: 8, stream_options })
  const final = await helper.finalChatCompletion()
  expect(final.choices[0]).toMatchObject({
    finish_reason: 'stop',
    message: { role: 'assistant', content: 'Hello' },
  })
  expect(final.usage?.completion_tokens).toBe(2)

  const pieces = []
  for await (const chunk of await client.completions.create({ model, prompt: 'p', stream: true }))
    pieces.push(chunk.choices[0]?.text)
  expect(pieces).toEqual(['Hel', 'lo', ''])
})

it('throws the class of error that each status stands for', async () => {
  const { edge, connect, client } = await createClient({ grant: 0 })
  const create = (api: OpenAI, extra: object = {}) =>
    api.chat.completions.create({ model: 'graft-tiny', messages, max_tokens: 4, ...extra })
  await expect(create(client)).rejects.toThrow(InternalServerError)
  await edge.runner(() => answerSteps(['x']))
  await expect(create(client)).rejects.toMatchObject({
    status: 402,
    code: 'ERR_NO_BALANCE',
    type: 'insufficient_quota',
  })
  await expect(create(client, { model: 'gpt-9' })).rejects.toThrow(NotFoundError)
  await expect(create(client, { frobnicate: 1 })).rejects.toThrow(BadRequestError)
  await expect(create(connect('a.b.c'))).rejects.toThrow(AuthenticationError)
})

it('gets a 429 as RateLimitError', async () => {
  const limits = {
    concurrency: 8,
    requestsPerMinute: 1,
    bodyBytes: 10_000,
    runnerIdleMs: 5_000,
    callMs: 5_000,
  }
  const { edge, client } = await createClient({ limits })
  await edge.runner(() => answerSteps(['x']))
  const create = () => client.chat.completions.create({ model: 'graft-tiny', messages })
  await create()
  await expect(create()).rejects.toThrow(RateLimitError)
})

it('throws on a stream whose runner dies, instead of taking it for complete', async () => {
  const { edge, client } = await createClient()
  await edge.runner(() => [accepted, ...tokenSteps(['a', 'b']), { type: 'cut' }])
  const stream = await client.chat.completions.create({
    ...{ model: 'graft-tiny', messages },
    stream: true,
  })
  let text = ''
  const read = async () => {
    for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? ''
  }
  const error = await read().catch((thrown: unknown) => thrown)
  expect(error).toBeInstanceOf(APIError)
  expect(error).toMatchObject({ code: 'ERR_RUNNER_FAILED' })
  expect(text).toBe('ab')
})

it('stops the runner and charges nothing when a client gives up on a whole answer', async () => {
  const { edge, client } = await createClient()
  const runner = await edge.runner(() => [
    accepted,
    ...tokenSteps(['a', 'b']),
    { type: 'wait', ms: 5_000 },
  ])
  const abort = new AbortController()
  const call = client.chat.completions.create(
    { model: 'graft-tiny', messages },
    { signal: abort.signal },
  )
  while (runner.framesSent < 3) await new Promise((r) => setTimeout(r, 5))
  abort.abort()
  await expect(call).rejects.toThrow(APIUserAbortError)
  while (runner.cancelledAt.length === 0) await new Promise((r) => setTimeout(r, 5))
  while ((await edge.balance()).held > 0) await new Promise((r) => setTimeout(r, 5))
  expect(await edge.balance()).toMatchObject({ spent: 0 })
})

it('stops the runner when the client breaks out of the loop, and settles what was sent', async () => {
  const { edge, client } = await createClient()
  const steps = tokenSteps(Array.from({ length: 500 }, () => 'x')).flatMap((step): Step[] => [
    step,
    { type: 'wait', ms: 5 },
  ])
  const runner = await edge.runner(() => [accepted, ...steps, { type: 'done!' }])
  const stream = await client.chat.completions.create({
    ...{ model: 'graft-tiny', messages, max_tokens: 500 },
    stream: true,
  })
  let seen = 0
  for await (const chunk of stream) if (chunk.choices[0]?.delta.content && ++seen === 5) break
  const left = performance.now()
  while (runner.cancelledAt.length === 0) await new Promise((r) => setTimeout(r, 5))
  expect(runner.cancelledAt[0]! - left).toBeLessThan(1_000)
  while ((await edge.balance()).held > 0) await new Promise((r) => setTimeout(r, 5))
  const { spent } = await edge.balance()
  expect(spent).toBeGreaterThanOrEqual(5 * 10 + 5 * 100)
  expect(spent).toBeLessThanOrEqual(5 * 10 + runner.framesSent * 100)
})

import { generateSigningKey } from '@graft/sdk/format/jws.ts'
import { expect, it } from 'vitest'
import { chat, createEdgeOfTests, parseSse } from './helpers/edge.ts'
import { answerSteps, type Step, tokenSteps } from './helpers/runner.ts'

const accepted: Step = { type: 'accepted', promptTokens: 5, cachedTokens: 0 }
const finish: Step = { type: 'finish', choice: 0, reason: 'stop', stop: null }
const textOf = (data: { choices: { delta: { content?: string } }[] }[]) =>
  data.map(({ choices }) => choices[0]?.delta.content ?? '').join('')

it.each<[string, Step[] | { status: number; body: unknown }]>([
  ['drops the connection at once', [{ type: 'cut' }]],
  ['ends before its first token', [accepted, { type: 'close' }]],
  [
    'reports a failure of its own',
    [accepted, { type: 'error', code: 'ERR_BANK_FULL', message: 'full', retryable: true }],
  ],
  ['leaves a choice without an end', [accepted, { type: 'done!' }]],
  ['counts in negative numbers', [{ ...accepted, cachedTokens: -5 }, ...answerSteps(['no'])]],
  ['speaks another protocol', [{ type: 'token' } as never]],
  ['is overloaded', { status: 503, body: { error: { code: 'ERR_OVERLOADED', message: 'busy' } } }],
  ['does not know the edge', { status: 401, body: { error: { code: 'ERR_UNAUTHENTICATED' } } }],
])('replaces a runner that %s before the first token', async (_, failing) => {
  const edge = await createEdgeOfTests()
  let failures = 0
  const script = () => (failures++ === 0 ? failing : answerSteps(['fine']))
  const one = await edge.runner(script, { id: 'one' })
  const two = await edge.runner(script, { id: 'two' })
  const response = await edge.post('/v1/chat/completions', chat())
  expect(response.status).toBe(200)
  expect((await response.json()).choices[0].message.content).toBe('fine')
  expect([one.requests.length, two.requests.length]).toEqual([1, 1])
  expect(await edge.balance()).toMatchObject({ spent: 5 * 10 + 100, held: 0 })
})

it('does not try elsewhere what would fail everywhere', async () => {
  const edge = await createEdgeOfTests()
  const script = (): Step[] => [
    { type: 'error', code: 'ERR_ADMISSION_FAILED', message: 'goldens differ', retryable: false },
  ]
  const one = await edge.runner(script, { id: 'one' })
  const two = await edge.runner(script, { id: 'two' })
  const response = await edge.post('/v1/chat/completions', chat())
  expect([response.status, (await response.json()).error]).toMatchObject([
    422,
    { code: 'ERR_ADMISSION_FAILED', message: 'goldens differ' },
  ])
  expect(one.requests.length + two.requests.length).toBe(1)
})

it('continues a stream on another runner, changes nothing sent and bills the prompt once', async () => {
  const edge = await createEdgeOfTests()
  let calls = 0
  const script = () =>
    calls++ === 0
      ? [accepted, ...tokenSteps(['a', 'b', 'c']), { type: 'cut' } as Step]
      : [
          { type: 'accepted', promptTokens: 5, cachedTokens: 3 } as Step,
          ...tokenSteps(['d', 'e'], 3),
          finish,
          { type: 'done!' } as Step,
        ]
  const one = await edge.runner(script, { id: 'one' })
  const two = await edge.runner(script, { id: 'two' })
  const response = await edge.post(
    '/v1/chat/completions',
    chat({ stream: true, seed: 7, stream_options: { include_usage: true } }),
  )
  const { blocks, data } = parseSse(await response.text())
  expect(textOf(data)).toBe('abcde')
  expect(blocks.at(-1)).toBe('data: [DONE]')
  expect(data.at(-1).usage).toMatchObject({ prompt_tokens: 5, completion_tokens: 5 })
  const [first, second] = [...one.requests, ...two.requests].sort((a) => (a.resume ? 1 : -1))
  expect(second!.resume).toEqual([{ tokenIds: [100, 101, 102] }])
  expect(second).toMatchObject({
    requestId: first!.requestId,
    requestHash: first!.requestHash,
    sampling: { seed: 7 },
  })
  expect(await edge.balance()).toMatchObject({ spent: 5 * 10 + 5 * 100, held: 0 })
})

it('ends a cut stream in band and charges nothing when nobody can continue it', async () => {
  const edge = await createEdgeOfTests()
  await edge.runner(() => [accepted, ...tokenSteps(['a', 'b']), { type: 'cut' }])
  const response = await edge.post('/v1/chat/completions', chat({ stream: true }))
  const { blocks, data } = parseSse(await response.text())
  expect(response.status).toBe(200)
  expect(data.at(-1)).toMatchObject({ error: { code: 'ERR_RUNNER_FAILED', type: 'server_error' } })
  expect(blocks.at(-1)).not.toBe('data: [DONE]')
  expect(await edge.balance()).toMatchObject({ available: 1_000_000, held: 0, spent: 0 })
  const requestId = response.headers.get('x-request-id')
  const receipt = await (await edge.get(`/v1/receipts/${requestId}`)).json()
  expect(receipt).toMatchObject({ outcome: 'failed', charged: 0, runner: null })
})

it('counts a runner that falls silent as failed', async () => {
  const edge = await createEdgeOfTests({
    limits: {
      concurrency: 8,
      requestsPerMinute: 100,
      bodyBytes: 10_000,
      runnerIdleMs: 150,
      callMs: 5_000,
    },
  })
  await edge.runner(() => [accepted, { type: 'wait', ms: 3_000 }])
  const response = await edge.post('/v1/chat/completions', chat())
  expect([response.status, (await response.json()).error.message]).toEqual([
    502,
    'runner runner-1 sent no frame for 150 ms',
  ])
})

it('routes around a draining runner and forgets a silent one', async () => {
  const edge = await createEdgeOfTests()
  const one = await edge.runner(() => answerSteps(['x']), { id: 'one' })
  const two = await edge.runner(() => answerSteps(['x']), { id: 'two' })
  await edge.deps.fleet.heartbeat({ ...one.heartbeat(), draining: true })
  for (let i = 0; i < 3; i++) await edge.post('/v1/chat/completions', chat())
  expect([one.requests.length, two.requests.length]).toEqual([0, 3])
  edge.shift.ms = 11_000
  const response = await edge.post('/v1/chat/completions', chat())
  expect((await response.json()).error.code).toBe('ERR_NO_RUNNER')
})

const zeros = `sha256:${'0'.repeat(64)}` as never
it.each<[string, (Step & { type: 'done!' })['change'] | 'key', string]>([
  ['another base', { base: zeros }, 'base is'],
  ['another adapter', { adapters: [{ digest: zeros, weight: '1' }] }, 'adapters is'],
  ['another tenant', { tenant: 'globex' }, 'tenant is'],
  ['another request', { requestHash: zeros }, 'request hash is'],
  ['an id of another call', { requestId: 'req_other' }, 'request id is'],
  ['more tokens', { tokens: { prompt: 5, cached: 0, completion: 9 } }, 'completion tokens is 9'],
  ['a longer prompt', { tokens: { prompt: 6, cached: 0, completion: 1 } }, 'prompt tokens is 6'],
  ['a key of somebody else', 'key', 'signature is not by the key'],
])('refuses a receipt that states %s, ejects the runner and charges nothing', async (...row) => {
  const [, change, message] = row
  const edge = await createEdgeOfTests()
  const forger = await generateSigningKey()
  const runner = await edge.runner(() => [
    accepted,
    ...tokenSteps(['a']),
    finish,
    change === 'key' ? { type: 'done!', key: forger } : { type: 'done!', change: change! },
  ])
  const response = await edge.post('/v1/chat/completions', chat())
  const { error } = await response.json()
  expect([response.status, error.code]).toEqual([502, 'ERR_RUNNER_UNTRUSTED'])
  expect(error.message).toContain(message)
  expect(await edge.balance()).toMatchObject({ available: 1_000_000, held: 0, spent: 0 })
  // A heartbeat with the same key does not bring it back.
  await edge.deps.fleet.heartbeat(runner.heartbeat())
  const next = await edge.post('/v1/chat/completions', chat())
  expect((await next.json()).error.code).toBe('ERR_NO_RUNNER')
})

it('tells an untrusted receipt in band when the tokens are already out', async () => {
  const edge = await createEdgeOfTests()
  await edge.runner(() => [
    accepted,
    ...tokenSteps(['a']),
    finish,
    { type: 'done!', change: { tenant: 'globex' } },
  ])
  const response = await edge.post('/v1/chat/completions', chat({ stream: true }))
  const { data } = parseSse(await response.text())
  expect(data.at(-1).error.code).toBe('ERR_RUNNER_UNTRUSTED')
  expect(await edge.balance()).toMatchObject({ spent: 0, held: 0 })
})

import { expect, it } from 'vitest'
import { chat, createEdgeOfTests, parseSse } from './helpers/edge.ts'
import { answerSteps } from './helpers/runner.ts'

it('answers a chat with one body that carries usage and a receipt', async () => {
  const edge = await createEdgeOfTests()
  await edge.runner(() => answerSteps(['Hel', 'lo']))
  const response = await edge.post('/v1/chat/completions', chat())
  const body = await response.json()
  expect(body).toMatchObject({
    object: 'chat.completion',
    model: 'graft-tiny',
    choices: [
      { index: 0, message: { role: 'assistant', content: 'Hello' }, finish_reason: 'stop' },
    ],
    usage: { prompt_tokens: 5, completion_tokens: 2, total_tokens: 7 },
  })
  expect(response.status).toBe(200)
  expect(response.headers.get('x-graft-base')).toBe(edge.base.digest)
  expect(body.graft_receipt).toBe(response.headers.get('x-graft-receipt'))
  expect(await edge.balance()).toMatchObject({ spent: 5 * 10 + 2 * 100, held: 0 })
})

it('streams a chat in the order clients expect', async () => {
  const edge = await createEdgeOfTests()
  await edge.runner(() => answerSteps(['Hel', 'lo']))
  const response = await edge.post(
    '/v1/chat/completions',
    chat({ stream: true, stream_options: { include_usage: true } }),
  )
  const { blocks, data } = parseSse(await response.text())
  expect(data.map((chunk) => chunk.choices)).toEqual([
    [{ index: 0, delta: { role: 'assistant', content: '' }, logprobs: null, finish_reason: null }],
    [{ index: 0, delta: { content: 'Hel' }, logprobs: null, finish_reason: null }],
    [{ index: 0, delta: { content: 'lo' }, logprobs: null, finish_reason: null }],
    [{ index: 0, delta: {}, logprobs: null, finish_reason: 'stop' }],
    [],
  ])
  expect(data.at(-1)).toMatchObject({ usage: { prompt_tokens: 5, completion_tokens: 2 } })
  expect(blocks.at(-2)).toBe(`: graft-receipt ${data.at(-1).graft_receipt}`)
  expect(blocks.at(-1)).toBe('data: [DONE]')
})

it('streams a completion without a role, and says usage: null before the usage chunk', async () => {
  const edge = await createEdgeOfTests()
  await edge.runner(() => answerSteps(['one', ' two']))
  const body = { model: 'graft-tiny', prompt: 'count', stream: true }
  const plain = parseSse(await (await edge.post('/v1/completions', body)).text())
  expect(plain.data.map(({ object, choices }) => [object, choices[0]])).toEqual([
    ['text_completion', { index: 0, text: 'one', logprobs: null, finish_reason: null }],
    ['text_completion', { index: 0, text: ' two', logprobs: null, finish_reason: null }],
    ['text_completion', { index: 0, text: '', logprobs: null, finish_reason: 'stop' }],
  ])
  expect(plain.data[0]).not.toHaveProperty('usage')
  const stream_options = { include_usage: true }
  const counted = parseSse(
    await (await edge.post('/v1/completions', { ...body, stream_options })).text(),
  )
  expect(counted.data.map(({ usage }) => usage?.total_tokens ?? usage)).toEqual([
    null,
    null,
    null,
    7,
  ])
  const heads = counted.data.map(({ id, created, model }) => `${id} ${created} ${model}`)
  expect(new Set(heads).size).toBe(1)
})

it('passes every sampling parameter to the runner and fills in what was not given', async () => {
  const edge = await createEdgeOfTests()
  const runner = await edge.runner(() => answerSteps(['x']))
  const response = await edge.post(
    '/v1/chat/completions',
    chat({
      messages: [
        {
          role: 'developer',
          content: [
            { type: 'text', text: 'be ' },
            { type: 'text', text: 'brief' },
          ],
        },
        { role: 'user', content: 'hi' },
      ],
      max_tokens: null,
      max_completion_tokens: 7,
      temperature: 0.5,
      top_p: 0.9,
      top_k: 40,
      min_p: 0.1,
      repetition_penalty: 1.1,
      presence_penalty: 0.2,
      frequency_penalty: -0.3,
      logit_bias: { '5': -100 },
      seed: 42,
      stop: 'END',
      user: 'u1',
      tools: [{ type: 'function', function: { name: 'f' } }],
    }),
  )
  expect(response.status).toBe(200)
  expect(runner.requests[0]).toMatchObject({
    tenant: 'acme',
    base: edge.base.digest,
    adapters: [],
    maxTokens: 7,
    n: 1,
    prompt: {
      kind: 'chat',
      messages: [
        { role: 'system', content: 'be brief' },
        { role: 'user', content: 'hi' },
      ],
      tools: [{ type: 'function', function: { name: 'f' } }],
    },
    sampling: {
      temperature: 0.5,
      topP: 0.9,
      topK: 40,
      minP: 0.1,
      repetitionPenalty: 1.1,
      presencePenalty: 0.2,
      frequencyPenalty: -0.3,
      logitBias: { '5': -100 },
      seed: 42,
      stop: ['END'],
      logprobs: null,
    },
  })
  await edge.post('/v1/completions', { model: 'graft-tiny', prompt: 'p' })
  expect(runner.requests[1]).toMatchObject({
    maxTokens: 16,
    prompt: { kind: 'text', text: 'p' },
    sampling: { temperature: 1, topP: 1, topK: 0, minP: 0, repetitionPenalty: 1, stop: [] },
  })
  const seed = runner.requests[1]!.sampling.seed
  expect(Number.isInteger(seed) && seed >= 0 && seed < 2 ** 32).toBe(true)
})

it('asks for a whole context of tokens when max_tokens is not given', async () => {
  const edge = await createEdgeOfTests()
  const runner = await edge.runner(() => answerSteps(['x']), { maxPositions: 100 })
  await edge.post('/v1/chat/completions', chat({ max_tokens: undefined }))
  expect(runner.requests[0]!.maxTokens).toBe(100)
})

it('returns logprobs in the shape of each endpoint', async () => {
  const edge = await createEdgeOfTests()
  const logprobs = [
    { id: 100, text: 'é', logprob: -0.5, top: [{ id: 101, text: 'e', logprob: -1 }] },
  ]
  await edge.runner(() => [
    { type: 'accepted', promptTokens: 1, cachedTokens: 0 },
    { type: 'tokens', choice: 0, tokenIds: [100], text: 'é', logprobs },
    { type: 'finish', choice: 0, reason: 'length', stop: null },
    { type: 'done!' },
  ])
  const chatBody = await (
    await edge.post('/v1/chat/completions', chat({ logprobs: true, top_logprobs: 1 }))
  ).json()
  expect(chatBody.choices[0]).toMatchObject({
    finish_reason: 'length',
    logprobs: {
      content: [
        {
          token: 'é',
          logprob: -0.5,
          bytes: [195, 169],
          top_logprobs: [{ token: 'e', logprob: -1, bytes: [101] }],
        },
      ],
    },
  })
  const completion = await (
    await edge.post('/v1/completions', { model: 'graft-tiny', prompt: 'p', logprobs: 1 })
  ).json()
  expect(completion.choices[0].logprobs).toEqual({
    tokens: ['é'],
    token_logprobs: [-0.5],
    top_logprobs: [{ e: -1 }],
    text_offset: [0],
  })
})

it('keeps the choices of n > 1 apart', async () => {
  const edge = await createEdgeOfTests()
  await edge.runner(() => [
    { type: 'accepted', promptTokens: 1, cachedTokens: 0 },
    { type: 'tokens', choice: 1, tokenIds: [7], text: 'b' },
    { type: 'tokens', choice: 0, tokenIds: [8], text: 'a' },
    { type: 'finish', choice: 1, reason: 'length', stop: null },
    { type: 'tokens', choice: 0, tokenIds: [9], text: 'a' },
    { type: 'finish', choice: 0, reason: 'stop', stop: null },
    { type: 'done!' },
  ])
  const whole = await (await edge.post('/v1/chat/completions', chat({ n: 2 }))).json()
  expect(whole.choices.map((c: { message: { content: string } }) => c.message.content)).toEqual([
    'aa',
    'b',
  ])
  expect(whole.usage.completion_tokens).toBe(3)
  const streamed = await edge.post('/v1/chat/completions', chat({ n: 2, stream: true }))
  const { data } = parseSse(await streamed.text())
  expect(data.map(({ choices: [c] }) => [c.index, c.delta.role ?? c.delta.content])).toEqual([
    [1, 'assistant'],
    [1, 'b'],
    [0, 'assistant'],
    [0, 'a'],
    [1, undefined],
    [0, 'a'],
    [0, undefined],
  ])
})

it.each([
  [{ type: 'text' }, undefined],
  [{ type: 'json_object' }, { type: 'json_object' }],
  [
    {
      type: 'json_schema',
      json_schema: { name: 'n', strict: true, schema: { type: 'integer', minimum: 3 } },
    },
    { type: 'json_schema', schema: { type: 'integer', minimum: 3 } },
  ],
])('passes the response format %j to the runner', async (response_format, passed) => {
  const edge = await createEdgeOfTests()
  const runner = await edge.runner(() => answerSteps(['x']))
  const response = await edge.post('/v1/chat/completions', chat({ response_format }))
  expect(response.status).toBe(200)
  expect(runner.requests[0]!.sampling.responseFormat).toEqual(passed)
})

it.each([
  [{ frobnicate: 1 }, 'frobnicate'],
  [{ stream_options: { include_obfuscation: true } }, 'stream_options.include_obfuscation'],
  [{ temperature: 3 }, 'temperature'],
  [{ n: 0 }, 'n'],
  [{ max_tokens: 0 }, 'max_tokens'],
  [{ messages: [] }, 'messages'],
  [{ messages: [{ role: 'user', content: 'x', tool_calls: [] }] }, 'messages.0.tool_calls'],
  [{ messages: [{ role: 'wizard', content: 'x' }] }, 'messages.0.role'],
  [{ logit_bias: { abc: 1 } }, 'logit_bias'],
  [{ response_format: { type: 'xml' } }, 'response_format.type'],
  [{ response_format: { type: 'json_schema' } }, 'response_format.json_schema'],
  [
    { response_format: { type: 'json_schema', json_schema: { name: 'x', schema: {}, mode: 1 } } },
    'response_format.json_schema.mode',
  ],
  [{ top_logprobs: 2 }, 'logprobs'],
  [{ model: 7 }, 'model'],
])('refuses %j and names the field', async (extra, field) => {
  const edge = await createEdgeOfTests()
  const response = await edge.post('/v1/chat/completions', chat(extra))
  const { error } = await response.json()
  expect(response.status).toBe(400)
  expect(error).toMatchObject({ code: 'ERR_REQUEST_INVALID', type: 'invalid_request_error' })
  expect(error.message).toContain(field)
  expect(error.requestId).toBe(response.headers.get('x-request-id'))
  expect(await edge.balance()).toMatchObject({ held: 0, spent: 0 })
})

it('refuses a body that is not JSON, and one that is too large', async () => {
  const edge = await createEdgeOfTests()
  const broken = await edge.post('/v1/chat/completions', '{"model":')
  expect([broken.status, (await broken.json()).error.code]).toEqual([400, 'ERR_JSON_INVALID'])
  const large = await edge.post('/v1/chat/completions', `"${'x'.repeat(4_000_001)}"`)
  expect([large.status, (await large.json()).error.code]).toEqual([413, 'ERR_BODY_TOO_LARGE'])
})

it('lists the bases that live and the adapters that the caller may read', async () => {
  const edge = await createEdgeOfTests()
  await edge.runner(() => answerSteps(['x']))
  await edge.addAdapter('@acme/sql', ['acme'])
  await edge.addAdapter('@globex/secret', ['globex'])
  const elsewhere = await edge.addAdapter('@acme/other-base')
  edge.registry.adapters.find(({ digest }) => digest === elsewhere)!.base = {
    name: 'absent',
    digest: elsewhere,
  }
  const list = await (await edge.get('/v1/models')).json()
  expect(list.data.map(({ id, parent }: { id: string; parent: string }) => [id, parent])).toEqual([
    ['graft-tiny', null],
    ['@acme/sql@1.2.0', 'graft-tiny'],
  ])
  for (const path of ['@acme/sql@1.2.0', encodeURIComponent('@acme/sql@1.2.0')]) {
    const one = await edge.get(`/v1/models/${path}`)
    expect(await one.json()).toMatchObject({ id: '@acme/sql@1.2.0', object: 'model' })
  }
  const hidden = await edge.get('/v1/models/@globex%2Fsecret')
  expect([hidden.status, (await hidden.json()).error.code]).toEqual([404, 'ERR_PACKAGE_UNKNOWN'])
})

it('sends the runner the digest and a capability, and names the digest in the answer', async () => {
  const edge = await createEdgeOfTests()
  const runner = await edge.runner(() => answerSteps(['x']))
  const sql = await edge.addAdapter('@acme/sql')
  const tone = await edge.addAdapter('@acme/tone')
  const model = '0.7(@acme/sql@^1)+0.3(@acme/tone)'
  const response = await edge.post('/v1/chat/completions', chat({ model }))
  expect(response.headers.get('x-graft-adapters')).toBe(`${sql}, ${tone}`)
  expect(runner.requests[0]!.adapters).toEqual([
    { digest: sql, weight: '0.7', label: '@acme/sql@1.2.0', capability: 'capability-of-acme' },
    { digest: tone, weight: '0.3', label: '@acme/tone@1.2.0', capability: 'capability-of-acme' },
  ])
})

it('says 404 for a base nobody knows and 503 while no runner lives', async () => {
  const edge = await createEdgeOfTests()
  const early = await edge.post('/v1/chat/completions', chat())
  expect([early.status, (await early.json()).error.code]).toEqual([503, 'ERR_NO_RUNNER'])
  expect(early.headers.get('retry-after')).toBe('2')
  await edge.runner(() => answerSteps(['x']))
  const unknown = await edge.post('/v1/chat/completions', chat({ model: 'gpt-9' }))
  expect([unknown.status, (await unknown.json()).error.code]).toEqual([404, 'ERR_MODEL_UNKNOWN'])
})

it('keeps a private adapter from another tenant, also when its owner has just used it', async () => {
  const edge = await createEdgeOfTests()
  const runner = await edge.runner(() => answerSteps(['x']))
  await edge.addAdapter('@acme/secret', ['acme'])
  const body = chat({ model: '@acme/secret' })
  expect((await edge.post('/v1/chat/completions', body)).status).toBe(200)
  await edge.books.book('globex').topUp({ id: 'g', amount: 1_000_000, memo: '' })
  const authorization = `Bearer ${await edge.registry.token({ tenant: 'globex' })}`
  const stranger = await edge.post('/v1/chat/completions', body, { authorization })
  expect([stranger.status, (await stranger.json()).error.code]).toEqual([
    404,
    'ERR_PACKAGE_UNKNOWN',
  ])
  expect(runner.requests).toHaveLength(1)
})

it('passes on that a prompt is too long, and charges nothing', async () => {
  const edge = await createEdgeOfTests()
  await edge.runner(() => ({
    status: 400,
    body: { error: { code: 'ERR_PROMPT_TOO_LONG', message: 'the prompt has 900 tokens' } },
  }))
  const response = await edge.post('/v1/chat/completions', chat())
  const { error } = await response.json()
  expect([response.status, error.code, error.message]).toEqual([
    400,
    'ERR_PROMPT_TOO_LONG',
    'the prompt has 900 tokens',
  ])
  expect(await edge.balance()).toMatchObject({ held: 0, spent: 0 })
})

it('answers an unknown path in the shape of every other error', async () => {
  const edge = await createEdgeOfTests()
  const response = await edge.get('/v1/frobnicate')
  expect([response.status, (await response.json()).error.code]).toEqual([404, 'ERR_ROUTE_UNKNOWN'])
})

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

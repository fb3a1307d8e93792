import { decodeUnverified } from '@graft/sdk/format/jws.ts'
import type { Receipt, RunnerReceipt } from '@graft/sdk/protocol/receipts.ts'
import { afterEach, expect, it } from 'vitest'
import { createEdgeOfTests, parseSse } from '../edge/helpers/edge.ts'
import { listen } from '../edge/helpers/listen.ts'
import { sendHeartbeat } from '../edge/helpers/runner.ts'
import { startTestRunner } from '../gpu-runner/helpers/test-runner.ts'

/*
 * The edge against the runner's real HTTP surface, scheduler, sampler and receipts; only the engine below them is a
 * table. What one room promises the other is held here: counts, receipts, cancelling, continuing.
 */
const closing: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})

async function createStack(ids: string[]) {
  const edge = await createEdgeOfTests()
  const runners = []
  for (const id of ids) {
    const deps = { id, fleetKeys: [edge.fleetKey.publicJwk] }
    const test = await startTestRunner({ deps })
    const server = await listen(test.runner)
    closing.push(() => test.close(), server.close)
    const beat = { url: server.url, status: test.runner.status(), draining: false }
    expect((await sendHeartbeat(edge.app, edge.fleetKey, beat)).status).toBe(200)
    runners.push({ ...test, server })
  }
  return { edge, runners }
}
const body = (extra: object = {}) => ({
  model: 'scripted',
  prompt: 'fg',
  max_tokens: 40,
  temperature: 1,
  seed: 11,
  ...extra,
})
const textOf = (sse: string): string =>
  parseSse(sse)
    .data.map(({ choices }) => choices[0]?.text ?? '')
    .join('')

it('trusts what an honest runner signs, for whole answers, streams and several choices', async () => {
  const { edge } = await createStack(['one'])
  const whole = await edge.post('/v1/completions', body({ n: 3, logprobs: 2 }))
  expect(whole.status).toBe(200)
  const answer = await whole.json()
  expect(answer.choices).toHaveLength(3)
  const { payload } = decodeUnverified<Receipt>(answer.graft_receipt)
  const inner = decodeUnverified<RunnerReceipt>(payload.runner!).payload
  expect(inner.tokens).toEqual({
    prompt: answer.usage.prompt_tokens,
    cached: 0,
    completion: answer.usage.completion_tokens,
  })
  const streamed = await edge.post('/v1/completions', body({ stream: true }))
  const text = await streamed.text()
  expect(text).toContain('data: [DONE]')
  const again = await edge.post('/v1/completions', body())
  expect((await again.json()).choices[0].text).toBe(textOf(text))
})

it('continues an answer on another runner to the very text of an undisturbed one', async () => {
  const { edge, runners } = await createStack(['one', 'two'])
  const undisturbed = await edge.post('/v1/completions', body())
  const expected = await undisturbed.json()
  const { spent } = await edge.balance()
  for (const { engine } of runners) engine.delayMs = 15
  const response = await edge.post('/v1/completions', body({ stream: true }))
  const reader = response.body!.getReader()
  let text = ''
  let killed = false
  for (;;) {
    const { done, value } = await reader.read()
    if (done) break
    text += new TextDecoder().decode(value)
    if (killed || textOf(text).length < 5) continue
    killed = true
    const busy = runners.find(({ runner }) => runner.status().running > 0)!
    await busy.server.close()
  }
  expect(killed).toBe(true)
  expect(textOf(text)).toBe(expected.choices[0].text)
  expect(text).toContain('data: [DONE]')
  // The second runner read the prompt again; the caller pays for it once.
  expect((await edge.balance()).spent).toBe(2 * spent)
})

it('frees the slot of a client that goes away', async () => {
  const { edge, runners } = await createStack(['one'])
  const [{ engine }] = runners as [(typeof runners)[0]]
  engine.delayMs = 20
  const stream = body({ stream: true, max_tokens: 200 })
  const response = await edge.post('/v1/completions', stream)
  const reader = response.body!.getReader()
  await reader.read()
  const steps = engine.steps.length
  await reader.cancel()
  while (!engine.events.at(-1)!.startsWith('close'))
    await new Promise((resolve) => setTimeout(resolve, 5))
  expect(engine.steps.length - steps).toBeLessThan(6)
})

it("passes the runner's own refusals on and charges nothing for them", async () => {
  const { edge } = await createStack(['one'])
  const long = await edge.post('/v1/completions', body({ prompt: 'f'.repeat(300) }))
  expect([long.status, (await long.json()).error.code]).toEqual([400, 'ERR_PROMPT_TOO_LONG'])
  expect(await edge.balance()).toMatchObject({ held: 0, spent: 0 })
})

import { generateSigningKey, signJwt, verifyCompact } from '@graft/sdk/format/jws.ts'
import type { RunnerReceipt } from '@graft/sdk/protocol/receipts.ts'
import type { Frame } from '@graft/sdk/protocol/runner-api.ts'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { eventually } from './helpers/eventually.ts'
import { GREEDY } from './helpers/greedy.ts'
import { publish } from './helpers/published.ts'
import { nextToken } from './helpers/scripted-engine.ts'
import { idsOf, startTestRunner, type TestRunner, textOf } from './helpers/test-runner.ts'

let t: TestRunner
beforeEach(async () => {
  t = await startTestRunner()
})
afterEach(() => t.close())

const greedy = (prompt: number[], count: number, shift = 0): number[] => {
  const all = [...prompt]
  for (let i = 0; i < count; i++) all.push(nextToken(all.at(-1)!, all.length - 1, shift))
  return all.slice(prompt.length)
}

describe('POST /v1/generate', () => {
  it('streams accepted, tokens, finish and done, with a receipt that its key signed', async () => {
    const request = await t.request()
    const response = await t.post('/v1/generate', request)
    expect(response.headers.get('content-type')).toBe('application/x-ndjson')
    const frames = (await response.text())
      .trim()
      .split('\n')
      .map((l) => JSON.parse(l) as Frame)
    expect(frames.map(({ type }) => type)).toEqual([
      'accepted',
      ...new Array(4).fill('tokens'),
      'finish',
      'done',
    ])
    expect(frames[0]).toEqual({ type: 'accepted', promptTokens: 2, cachedTokens: 0 })
    expect(idsOf(frames)).toEqual(greedy([5, 6], 4))
    expect(frames.at(-2)).toEqual({ type: 'finish', choice: 0, reason: 'length', stop: null })
    const done = frames.at(-1)!
    if (done.type !== 'done') return expect.unreachable()
    expect(done.tokens).toEqual({ prompt: 2, cached: 0, completion: 4 })
    const { payload } = await verifyCompact<RunnerReceipt>(
      done.receipt,
      'graft-runner-receipt+jws',
      [t.runner.status().key],
    )
    expect(payload).toEqual({
      v: 1,
      requestId: 'req_1',
      requestHash: request.requestHash,
      tenant: 'acme',
      base: t.base.digest,
      adapters: [],
      mergeState: 'none',
      tokens: { prompt: 2, cached: 0, completion: 4 },
      finish: 'length',
      runner: { id: 'r1', build: 'scripted@1' },
      issuedAt: payload.issuedAt,
    })
  })

  it('refuses a request hash that is not the hash of what was asked', async () => {
    const request = await t.request()
    const response = await t.post('/v1/generate', { ...request, maxTokens: 5 })
    expect(response.status).toBe(400)
    expect((await response.json()).error).toMatchObject({
      code: 'ERR_REQUEST_INVALID',
      message: expect.stringContaining('requestHash'),
    })
  })

  it.each([
    ['an unknown field', { surprise: 1 }, /surprise/],
    ['an unknown field of the sampling', { sampling: { ...GREEDY, topA: 1 } }, /topA/],
    [
      'a temperature below 0',
      { sampling: { ...GREEDY, temperature: -1 } },
      /sampling\.temperature/,
    ],
    ['no choices', { n: 0 }, /^n/],
    ['a base that is no digest', { base: 'latest' }, /base.*sha256/],
    ['resume for other choices', { resume: [] }, /one entry per choice/],
  ])('refuses %s by name', async (_, change, message) => {
    await expect(t.frames(change as never)).rejects.toMatchObject({
      code: 'ERR_REQUEST_INVALID',
      message: expect.stringMatching(message),
    })
  })

  it('refuses another base, a prompt that fills the window, and a deadline that passed', async () => {
    const base = `sha256:${'0'.repeat(64)}` as never
    await expect(t.frames({ base })).rejects.toMatchObject({ code: 'ERR_BASE_MISMATCH' })
    const tokenIds = new Array(256).fill(5)
    await expect(t.frames({ prompt: { kind: 'tokens', tokenIds } })).rejects.toMatchObject({
      code: 'ERR_PROMPT_TOO_LONG',
    })
    await expect(t.frames({ deadline: 1 })).rejects.toMatchObject({ code: 'ERR_DEADLINE' })
  })

  it('ends with the window: the answer is as long as there are positions', async () => {
    const prompt = { kind: 'tokens' as const, tokenIds: new Array(250).fill(5) }
    const frames = await t.frames({ prompt, maxTokens: 100 })
    expect(idsOf(frames)).toHaveLength(6)
  })

  it('stops at a stop string that spans tokens, without showing any of it', async () => {
    const whole = textOf(await t.frames({ maxTokens: 8 }))
    const stop = whole.slice(3, 6)
    const frames = await t.frames({ maxTokens: 8, sampling: { ...GREEDY, stop: [stop] } })
    expect(textOf(frames)).toBe(whole.slice(0, whole.indexOf(stop)))
    expect(frames).toContainEqual({ type: 'finish', choice: 0, reason: 'stop', stop })
  })

  it('ends with the end-of-text token, which counts and has no text', async () => {
    const sampling = { ...GREEDY, logitBias: { '2': 100 } }
    const frames = await t.frames({ sampling })
    expect(idsOf(frames)).toEqual([2])
    expect(textOf(frames)).toBe('')
    expect(frames).toContainEqual({ type: 'finish', choice: 0, reason: 'stop', stop: null })
  })

  it('draws n choices that differ, and the same ones for the same seed', async () => {
    const sampling = { ...GREEDY, temperature: 5 }
    const first = await t.frames({ n: 3, sampling })
    const again = await t.frames({ n: 3, sampling })
    const choices = [0, 1, 2].map((choice) => idsOf(first, choice))
    expect(choices).toEqual([0, 1, 2].map((choice) => idsOf(again, choice)))
    expect(new Set(choices.map(String)).size).toBe(3)
    const other = await t.frames({ n: 3, sampling: { ...sampling, seed: 2 } })
    expect(idsOf(other)).not.toEqual(choices[0])
  })

  it('continues an answer exactly where another runner stopped, at any token', async () => {
    const sampling = {
      ...GREEDY,
      temperature: 3,
      presencePenalty: 1,
      repetitionPenalty: 1.3,
      stop: ['zzz'],
    }
    const whole = await t.frames({ n: 2, sampling, maxTokens: 10 })
    for (const cut of [1, 4, 9, 10]) {
      const resume = [0, 1].map((choice) => ({ tokenIds: idsOf(whole, choice).slice(0, cut) }))
      const rest = await t.frames({ n: 2, sampling, maxTokens: 10, resume })
      for (const choice of [0, 1]) {
        expect(idsOf(rest, choice)).toEqual(idsOf(whole, choice).slice(cut))
        expect(textOf(rest, choice)).toBe(textOf(whole, choice).slice(cut))
      }
      expect(rest.at(-1)).toMatchObject({ tokens: { prompt: 2, completion: (10 - cut) * 2 } })
    }
  })

  it('gives logprobs of the model, with the text of each token', async () => {
    const frames = await t.frames({ maxTokens: 1, sampling: { ...GREEDY, logprobs: 2 } })
    const tokens = frames.find((f) => f.type === 'tokens')
    const id = greedy([5, 6], 1)[0]!
    const logprob = 10 - Math.log(Math.exp(10) + 49)
    expect(tokens).toMatchObject({
      logprobs: [{ id, text: String.fromCharCode(97 + id), logprob: expect.closeTo(logprob, 5) }],
    })
  })

  it('answers with an adapter, names it in receipt and step log, and mixes with base rows', async () => {
    const adapter = await publish({ base: t.base, shift: 9 })
    t.registry.add(adapter)
    t.engine.delayMs = 2
    const pull = {
      digest: adapter.digest,
      weight: '1',
      label: '@acme/shift@1.0.0',
      capability: null,
    }
    const [adapted, plain] = await Promise.all([
      t.frames({ adapters: [pull], requestId: 'with', maxTokens: 20 }),
      t.frames({ requestId: 'without', maxTokens: 20 }),
    ])
    expect(idsOf(adapted)).toEqual(greedy([5, 6], 20, 9))
    expect(idsOf(plain)).toEqual(greedy([5, 6], 20))
    const done = adapted.at(-1)!
    if (done.type !== 'done') return expect.unreachable()
    const { payload } = await verifyCompact<RunnerReceipt>(
      done.receipt,
      'graft-runner-receipt+jws',
      [t.key.publicJwk],
    )
    expect(payload.adapters).toEqual([{ digest: adapter.digest, weight: '1' }])
    expect(payload.mergeState).toBe('banked')
    const steps = await t.runner.fetch(
      new Request('http://runner/v1/steps?after=0', {
        headers: { authorization: `Bearer ${await t.token()}` },
      }),
    )
    const rows = (await steps.json()).steps.flatMap((s: { rows: object[] }) => s.rows)
    expect(rows).toContainEqual({
      requestId: 'with',
      tenant: 'acme',
      adapters: [adapter.digest],
      tokens: 1,
    })
  })

  it('cancels when the caller goes away, and frees the slot within a step', async () => {
    t.engine.delayMs = 5
    const response = await t.post('/v1/generate', await t.request({ maxTokens: 200 }))
    const reader = response.body!.getReader()
    await reader.read()
    await reader.read()
    const before = t.engine.steps.length
    await reader.cancel()
    await eventually(() => t.engine.events).toContain('close 1')
    expect(t.engine.steps.length - before).toBeLessThanOrEqual(1)
    expect(t.runner.status().running).toBe(0)
  })

  it('reports no defect when the caller goes away while a frame is awaited', async () => {
    const defects: unknown[] = []
    const own = await startTestRunner({ deps: { onDefect: (e) => defects.push(e) } })
    own.engine.delayMs = 20
    const response = await own.post('/v1/generate', await own.request({ maxTokens: 200 }))
    const reader = response.body!.getReader()
    await reader.read()
    await reader.read()
    const turn = () => new Promise((resolve) => setTimeout(resolve, 5))
    // The stream asks for the next frame, which the engine still works on.
    await turn()
    await reader.cancel()
    await eventually(() => own.engine.events).toContain('close 1')
    await turn()
    expect(defects).toEqual([])
    await own.close()
  })

  it('sends an error frame for what happens after the first frame', async () => {
    t.engine.delayMs = 5
    const all = t.frames({ maxTokens: 200 })
    await eventually(() => t.engine.steps.length).toBeGreaterThan(3)
    t.engine.failNext = new Error('gone')
    expect((await all).at(-1)).toMatchObject({
      type: 'error',
      code: 'ERR_RUNNER_FAILED',
      retryable: true,
    })
  })

  it('refuses when its queue is full, and says when to come back', async () => {
    const small = await startTestRunner({ info: { slots: 1 }, deps: { limits: { maxWaiting: 1 } } })
    small.engine.delayMs = 20
    const busy = [small.frames({ maxTokens: 100 }), small.frames({ maxTokens: 1 })]
    await eventually(() => small.runner.status().waiting).toBe(1)
    const response = await small.post('/v1/generate', await small.request())
    expect(response.status).toBe(503)
    expect(Number(response.headers.get('retry-after'))).toBeGreaterThanOrEqual(1)
    expect((await response.json()).error.code).toBe('ERR_OVERLOADED')
    await Promise.all(busy)
    await small.close()
  })
})

describe('who may call', () => {
  const status = async (token: string | null) =>
    t.runner.fetch(
      new Request('http://runner/v1/status', {
        headers: token === null ? {} : { authorization: `Bearer ${token}` },
      }),
    )

  it('an edge of the fleet, with a token for this runner', async () => {
    const response = await status(await t.token())
    expect(response.status).toBe(200)
    expect(await response.json()).toEqual(t.runner.status())
  })

  it.each([
    ['nobody without a token', null, 401, 'ERR_UNAUTHENTICATED'],
    ['no token for another runner', { aud: 'r2' }, 401, 'ERR_UNAUTHENTICATED'],
    ['no token of a runner', { role: 'runner' }, 403, 'ERR_FORBIDDEN'],
    ['no token that expired', { exp: 1 }, 401, 'ERR_TOKEN_EXPIRED'],
  ])('%s', async (_, claims, code, error) => {
    const response = await status(claims && (await t.token(claims)))
    expect(response.status).toBe(code)
    expect((await response.json()).error.code).toBe(error)
  })

  it('no token of a stranger, and no token of another kind', async () => {
    const claims = { iss: 'x', aud: 'r1', role: 'edge', iat: 0, exp: 4_000_000_000 }
    const stranger = await generateSigningKey()
    for (const token of [
      await signJwt(claims, 'graft-fleet+jwt', stranger),
      await signJwt(claims, 'graft-access+jwt', t.fleetKey),
    ])
      expect((await status(token)).status).toBe(401)
  })
})

describe('the other routes', () => {
  it('count a prompt as generate counts it', async () => {
    const response = await t.post('/v1/count', { prompt: { kind: 'text', text: 'abc' } })
    expect(await response.json()).toEqual({ tokens: 3 })
  })

  it('show health and Prometheus text to everybody', async () => {
    await t.frames()
    const get = (path: string) => t.runner.fetch(new Request(`http://runner${path}`))
    expect((await get('/healthz')).status).toBe(200)
    const text = await (await get('/metrics')).text()
    expect(text).toContain('graft_requests_total{outcome="done"} 1')
    expect(text).toContain('graft_tokens_total{kind="completion"} 4')
    expect(text).toMatch(/graft_step_seconds_bucket\{le="\+Inf"\} 4/)
    for (const line of text.trim().split('\n'))
      expect(line).toMatch(
        /^(# (HELP|TYPE) \w+ .+|\w+(\{\w+="[^"]*"(,\w+="[^"]*")*\})? [-+.\de]+)$/,
      )
  })

  it('do not exist beyond those of the protocol', async () => {
    const response = await t.post('/v1/nothing', {})
    expect(response.status).toBe(404)
    expect((await response.json()).error.code).toBe('ERR_ROUTE_UNKNOWN')
  })

  it('a draining runner refuses new requests and finishes the ones it has', async () => {
    t.engine.delayMs = 5
    const running = t.frames({ maxTokens: 200 })
    await eventually(() => t.runner.status().running).toBe(1)
    const drained = t.runner.drain()
    await expect(t.frames()).rejects.toMatchObject({ code: 'ERR_OVERLOADED' })
    expect(idsOf(await running)).toHaveLength(200)
    await drained
    expect(t.runner.draining).toBe(true)
  })
})

import { verifyCompact } from '@graft/sdk/format/jws.ts'
import type { RunnerReceipt } from '@graft/sdk/protocol/receipts.ts'
import type { Frame, ResponseFormat } from '@graft/sdk/protocol/runner-api.ts'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { GREEDY } from './helpers/greedy.ts'
import { VOCAB } from './helpers/scripted-engine.ts'
import { idsOf, letters, startTestRunner, type TestRunner, textOf } from './helpers/test-runner.ts'

/** One character a token; 2 ends an answer. What closes JSON comes first, so that greedy ties end it. */
const CHARS = [...`}"\0],{[:. -0123456789abcdefghijklmnopqrstuvwxyzEF_`].slice(0, VOCAB)
const END = 2
const codec = {
  ...letters,
  decode: (ids: number[]) => ids.map((id) => (id === END ? '' : CHARS[id])).join(''),
  stream: () => ({ push: (id: number) => CHARS[id]!, flush: () => '' }),
  tokenBytes: () =>
    Array.from({ length: VOCAB }, (_, id) =>
      id === END || !CHARS[id] ? null : new TextEncoder().encode(CHARS[id]),
    ),
}

const schema = {
  type: 'object',
  properties: {
    id: { type: 'integer', minimum: 10, maximum: 99 },
    tags: { type: 'array', items: { type: 'string', maxLength: 3 }, maxItems: 2 },
    ok: { type: 'boolean' },
  },
  required: ['id', 'tags', 'ok'],
  additionalProperties: false,
}
const responseFormat: ResponseFormat = { type: 'json_schema', schema }

const fits = (value: unknown): boolean => {
  const { id, tags, ok, ...rest } = value as { id: number; tags: string[]; ok: boolean }
  return (
    Number.isInteger(id) &&
    id >= 10 &&
    id <= 99 &&
    tags.length <= 2 &&
    tags.every((tag) => tag.length <= 3) &&
    typeof ok === 'boolean' &&
    Object.keys(rest).length === 0
  )
}

const finishOf = (frames: Frame[], choice = 0) =>
  frames.find((frame) => frame.type === 'finish' && frame.choice === choice)

let t: TestRunner
beforeEach(async () => {
  t = await startTestRunner({ deps: { codec } })
})
afterEach(() => t.close())

describe('an answer with a response format', () => {
  it('is JSON of the schema, greedy or drawn, for each of its choices', async () => {
    const greedy = await t.frames({ maxTokens: 100, sampling: { ...GREEDY, responseFormat } })
    expect(fits(JSON.parse(textOf(greedy)))).toBe(true)
    expect(finishOf(greedy)).toMatchObject({ reason: 'stop' })
    expect(idsOf(greedy).at(-1)).toBe(END)
    const sampling = { ...GREEDY, temperature: 4, responseFormat }
    const drawn = await t.frames({ maxTokens: 100, n: 4, sampling })
    const texts = [0, 1, 2, 3].map((choice) => textOf(drawn, choice))
    for (const text of texts) expect(fits(JSON.parse(text))).toBe(true)
    expect(new Set(texts).size).toBeGreaterThan(1)
  })

  it('is cut by max tokens to the beginning of such JSON, and says so', async () => {
    const sampling = { ...GREEDY, responseFormat }
    const whole = textOf(await t.frames({ maxTokens: 100, sampling }))
    for (const maxTokens of [1, 7, 19]) {
      const cut = await t.frames({ maxTokens, sampling })
      expect(textOf(cut)).toBe(whole.slice(0, maxTokens))
      expect(finishOf(cut)).toMatchObject({ reason: 'length' })
    }
  })

  it('continues exactly where another runner stopped, at any token', async () => {
    const sampling = { ...GREEDY, temperature: 3, presencePenalty: 1, responseFormat }
    const whole = await t.frames({ maxTokens: 100, sampling })
    const ids = idsOf(whole)
    for (const cut of [1, 9, ids.length - 1, ids.length]) {
      const resume = [{ tokenIds: ids.slice(0, cut) }]
      const rest = await t.frames({ maxTokens: 100, sampling, resume })
      expect(idsOf(rest)).toEqual(ids.slice(cut))
      expect(finishOf(rest)).toMatchObject({ reason: 'stop' })
    }
  })

  it('runs beside answers of any text, which it leaves as they were', async () => {
    const alone = idsOf(await t.frames({ maxTokens: 30 }))
    // The grammar thread starts with the first of its kind.
    await t.frames({ maxTokens: 1, sampling: { ...GREEDY, responseFormat } })
    t.engine.delayMs = 1
    const [json, plain] = await Promise.all([
      t.frames({ maxTokens: 60, sampling: { ...GREEDY, responseFormat } }),
      t.frames({ maxTokens: 30, requestId: 'plain' }),
    ])
    expect(fits(JSON.parse(textOf(json)))).toBe(true)
    expect(idsOf(plain)).toEqual(alone)
    expect(t.engine.steps.some((rows) => rows.length === 2)).toBe(true)
  })

  it('keeps logprobs those of the model, and is part of the signed request hash', async () => {
    const sampling = { ...GREEDY, logprobs: 0, responseFormat }
    const request = await t.request({ maxTokens: 2, sampling })
    const frames = await t.frames({ maxTokens: 2, sampling })
    const first = frames.find((frame) => frame.type === 'tokens')
    // Greedy wanted another token: this one has the logit 0 beside one of 10.
    expect(first).toMatchObject({
      logprobs: [{ logprob: expect.closeTo(-Math.log(Math.exp(10) + 49), 4) }],
    })
    const done = frames.at(-1)!
    if (done.type !== 'done') return expect.unreachable()
    const { payload } = await verifyCompact<RunnerReceipt>(
      done.receipt,
      'graft-runner-receipt+jws',
      [t.key.publicJwk],
    )
    expect(payload.requestHash).toBe(request.requestHash)
    const plain = await t.request({ maxTokens: 2, sampling: { ...GREEDY, logprobs: 0 } })
    expect(plain.requestHash).not.toBe(request.requestHash)
  })

  it('is refused before anything runs when its schema is not supported, by name', async () => {
    const refused: [Record<string, unknown>, string][] = [
      [{ type: 'string', pattern: '^a' }, 'response_format: #: keyword "pattern" is not supported'],
      [{ type: 'array', contains: {} }, 'response_format: #: keyword "contains" is not supported'],
    ]
    for (const [bad, message] of refused) {
      const format: ResponseFormat = { type: 'json_schema', schema: bad }
      await expect(
        t.frames({ sampling: { ...GREEDY, responseFormat: format } }),
      ).rejects.toMatchObject({ code: 'ERR_REQUEST_INVALID', message })
    }
    await expect(
      t.frames({ sampling: { ...GREEDY, responseFormat: { type: 'xml' } as never } }),
    ).rejects.toMatchObject({
      code: 'ERR_REQUEST_INVALID',
      message: expect.stringContaining('responseFormat'),
    })
    expect(t.engine.steps).toEqual([])
  })

  it('ends with an error, not with half of it, where the vocabulary cannot write it', async () => {
    const lacking = () => codec.tokenBytes().map((bytes) => (bytes?.[0] === 0x3a ? null : bytes))
    const other = await startTestRunner({ deps: { codec: { ...codec, tokenBytes: lacking } } })
    try {
      const frames = await other.frames({
        maxTokens: 100,
        sampling: { ...GREEDY, responseFormat },
      })
      expect(frames.at(-1)).toMatchObject({
        type: 'error',
        code: 'ERR_REQUEST_INVALID',
        message: expect.stringContaining('no token of this base can continue'),
      })
    } finally {
      await other.close()
    }
  })

  it('is refused by a base whose tokens have no bytes of their own', async () => {
    const other = await startTestRunner({ deps: { codec: { ...codec, tokenBytes: () => null } } })
    try {
      await expect(other.frames({ sampling: { ...GREEDY, responseFormat } })).rejects.toMatchObject(
        {
          code: 'ERR_REQUEST_INVALID',
          message: expect.stringContaining('response_format needs a tokenizer of bytes'),
        },
      )
    } finally {
      await other.close()
    }
  })
})

describe('a bias', () => {
  it('for a token that the base has not is refused by name', async () => {
    await expect(
      t.frames({ sampling: { ...GREEDY, logitBias: { '50': 1 } } }),
    ).rejects.toMatchObject({
      code: 'ERR_REQUEST_INVALID',
      message: 'sampling.logitBias must be ids below the vocabulary of 50, got "50"',
    })
  })
})

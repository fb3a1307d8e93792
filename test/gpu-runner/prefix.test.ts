import type { Job } from '@graft/runner/scheduler/job.ts'
import { PREFIX_BLOCK, prefixKeys } from '@graft/runner/scheduler/prefix-keys.ts'
import { createScheduler, type Scheduler } from '@graft/runner/scheduler/scheduler.ts'
import type { Digest } from '@graft/sdk/format/digest.ts'
import { verifyCompact } from '@graft/sdk/format/jws.ts'
import type { RunnerReceipt } from '@graft/sdk/protocol/receipts.ts'
import fc from 'fast-check'
import { afterEach, describe, expect, it } from 'vitest'
import { publish } from './helpers/published.ts'
import { createScriptedEngine, nextToken, type ScriptedEngine } from './helpers/scripted-engine.ts'
import { idsOf, startTestRunner, type TestRunner } from './helpers/test-runner.ts'

const digest = (letter: string) => `sha256:${letter.repeat(64)}` as Digest
const info = {
  base: { name: 'b', digest: digest('b') },
  build: 'engine@1',
  kvPrecision: 'fp32',
} as const
const prompt = (length: number, from = 0): number[] =>
  Array.from({ length }, (_, i) => (from + i * 3) % 40)
const job = (change: Partial<Job> = {}) => ({
  tenant: 'acme',
  adapters: [{ digest: digest('a'), weight: 1 }],
  tokenIds: prompt(100),
  ...change,
})
const keysOf = (
  change: Partial<Job> = {},
  base: Partial<typeof info> | object = {},
  shared = false,
) => prefixKeys({ ...info, ...base }, job(change), shared).keys

describe('keys of a prompt', () => {
  it('name every full block but that of the last token, which must be run', () => {
    const counts = [1, 32, 33, 64, 65].map((length) => keysOf({ tokenIds: prompt(length) }).length)
    expect(counts).toEqual([0, 0, 1, 1, 2])
    expect(PREFIX_BLOCK).toBe(32)
  })

  it('are the same as far as the tokens are, and different from there on', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 159 }), (at) => {
        const one = prompt(161)
        const other = one.map((id, i) => (i === at ? id + 1 : id))
        const [a, b] = [keysOf({ tokenIds: one }), keysOf({ tokenIds: other })]
        const same = Math.floor(at / PREFIX_BLOCK)
        expect(a.slice(0, same)).toEqual(b.slice(0, same))
        for (let i = same; i < a.length; i++) expect(a[i]).not.toBe(b[i])
        expect(new Set([...a, ...b]).size).toBe(2 * a.length - same)
      }),
    )
  })

  it('are different for whatever decides keys and values', () => {
    const a = digest('a')
    const c = digest('c')
    const all = [
      keysOf(),
      keysOf({ tenant: 'globex' }),
      keysOf({ adapters: [] }),
      keysOf({ adapters: [{ digest: c, weight: 1 }] }),
      keysOf({ adapters: [{ digest: a, weight: 0.5 }] }),
      keysOf({
        adapters: [
          { digest: a, weight: 1 },
          { digest: c, weight: 1 },
        ],
      }),
      keysOf({}, { build: 'engine@2' }),
      keysOf({}, { base: { name: 'b', digest: c } }),
      keysOf({}, { kvPrecision: 'int8' }),
    ]
    expect(new Set(all.flat()).size).toBe(all.length * 3)
  })

  it('leave the tenant out when the operator shares prompts', () => {
    expect(keysOf({}, {}, true)).toEqual(keysOf({ tenant: 'globex' }, {}, true))
    expect(keysOf({}, {}, true)).not.toEqual(keysOf())
  })
})

describe('the scheduler with an engine that keeps blocks', () => {
  const schedulers: Scheduler[] = []
  afterEach(async () => {
    for (const scheduler of schedulers.splice(0)) await scheduler[Symbol.asyncDispose]()
  })
  function start(limits = {}): { engine: ScriptedEngine; scheduler: Scheduler } {
    const engine = createScriptedEngine()
    engine.blocks = new Set()
    const scheduler = createScheduler({ engine, now: Date.now, limits })
    schedulers.push(scheduler)
    return { engine, scheduler }
  }

  interface Ran {
    answer: number[]
    cached: number
    fed: number
  }
  /** Runs one sequence of three answer tokens. */
  const run = ({ engine, scheduler }: ReturnType<typeof start>, change: Partial<Job> = {}) =>
    new Promise<Ran>((resolve, reject) => {
      const ran: Ran = { answer: [], cached: 0, fed: 0 }
      const before = engine.steps.length
      scheduler.submit({
        requestId: 'r',
        tenant: 'acme',
        adapters: [],
        tokenIds: prompt(70),
        logits: 'last',
        background: false,
        deadline: null,
        onOpen: ({ cachedTokens }) => {
          ran.cached = cachedTokens
        },
        onLogits(logits) {
          const id = logits.indexOf(Math.max(...logits))
          ran.answer.push(id)
          return ran.answer.length < 3 ? id : null
        },
        onEnd(error) {
          if (error) return reject(error)
          const rows = engine.steps.slice(before).flat()
          ran.fed = rows.reduce((sum, { tokenIds }) => sum + tokenIds.length, 0)
          resolve(ran)
        },
        ...change,
      })
    })

  const greedy = (tokenIds: number[]): number[] => {
    const all = [...tokenIds]
    for (let i = 0; i < 3; i++) all.push(nextToken(all.at(-1)!, all.length - 1, 0))
    return all.slice(tokenIds.length)
  }

  it('feeds what was not run before, and the answer is the same', async () => {
    const at = start()
    expect(await run(at)).toEqual({ answer: greedy(prompt(70)), cached: 0, fed: 72 })
    expect(await run(at)).toEqual({ answer: greedy(prompt(70)), cached: 64, fed: 8 })
    // A longer prompt takes what it has in common.
    const longer = [...prompt(40), ...prompt(60, 7)]
    expect(await run(at, { tokenIds: longer })).toEqual({
      answer: greedy(longer),
      cached: 32,
      fed: 70,
    })
  })

  it('feeds at least one token, also of a prompt that is all there', async () => {
    const at = start()
    await run(at, { tokenIds: prompt(64) })
    await run(at, { tokenIds: prompt(65) })
    expect(await run(at, { tokenIds: prompt(64) })).toMatchObject({ cached: 32, fed: 34 })
    expect(await run(at, { tokenIds: prompt(65) })).toMatchObject({
      answer: greedy(prompt(65)),
      cached: 64,
      fed: 3,
    })
  })

  it('shares nothing between tenants, unless the operator says so', async () => {
    const apart = start()
    await run(apart)
    expect(await run(apart, { tenant: 'globex' })).toMatchObject({ cached: 0, fed: 72 })
    const together = start({ sharePrefixes: true })
    await run(together)
    expect(await run(together, { tenant: 'globex' })).toMatchObject({ cached: 64, fed: 8 })
  })

  it('runs all tokens of who asks for all logits', async () => {
    const at = start()
    await run(at)
    expect(await run(at, { logits: 'all' })).toMatchObject({ cached: 0, fed: 72 })
  })

  it('fails a sequence whose engine claims more than was asked, and no other', async () => {
    const at = start()
    at.engine.open = async () => ({ cachedTokens: 70 })
    await expect(run(at)).rejects.toMatchObject({ code: 'ERR_RUNNER_FAILED' })
  })
})

describe('an answer whose prompt was run before', () => {
  let t: TestRunner
  afterEach(() => t.close())
  const tokenIds = prompt(70, 3)

  it('says so in its first frame, its usage and its receipt', async () => {
    t = await startTestRunner()
    t.engine.blocks = new Set()
    const request = { prompt: { kind: 'tokens' as const, tokenIds } }
    const first = await t.frames(request)
    const second = await t.frames({ ...request, n: 2 })
    expect(first[0]).toEqual({ type: 'accepted', promptTokens: 70, cachedTokens: 0 })
    expect(second[0]).toEqual({ type: 'accepted', promptTokens: 70, cachedTokens: 64 })
    expect(idsOf(second)).toEqual(idsOf(first))
    const done = second.at(-1)!
    if (done.type !== 'done') return expect.unreachable()
    expect(done.tokens).toEqual({ prompt: 70, cached: 64, completion: 8 })
    const { payload } = await verifyCompact<RunnerReceipt>(
      done.receipt,
      'graft-runner-receipt+jws',
      [t.key.publicJwk],
    )
    expect(payload.tokens).toEqual(done.tokens)
  })

  it('counts no resumed token as one of the prompt', async () => {
    t = await startTestRunner()
    t.engine.blocks = new Set()
    const request = {
      prompt: { kind: 'tokens' as const, tokenIds: tokenIds.slice(0, 40) },
      maxTokens: 100,
    }
    const whole = await t.frames(request)
    const resume = [{ tokenIds: idsOf(whole).slice(0, 60) }]
    await t.frames({ ...request, resume })
    const again = await t.frames({ ...request, resume })
    expect(again[0]).toEqual({ type: 'accepted', promptTokens: 40, cachedTokens: 40 })
    expect(idsOf(again)).toEqual(idsOf(whole).slice(60))
  })

  it('takes nothing from answers with another adapter', async () => {
    t = await startTestRunner()
    t.engine.blocks = new Set()
    const adapter = await publish({ base: t.base, shift: 9 })
    t.registry.add(adapter)
    const request = { prompt: { kind: 'tokens' as const, tokenIds } }
    await t.frames(request)
    const pull = { digest: adapter.digest, weight: '1', label: '@acme/x@1.0.0', capability: null }
    const adapted = await t.frames({ ...request, adapters: [pull] })
    expect(adapted[0]).toMatchObject({ cachedTokens: 0 })
  })
})

import type { Job } from '@graft/runner/scheduler/job.ts'
import { type PolicyRow, planStep } from '@graft/runner/scheduler/policy.ts'
import { createRateMeter } from '@graft/runner/scheduler/rate.ts'
import { createScheduler, type Scheduler } from '@graft/runner/scheduler/scheduler.ts'
import { createStepLog } from '@graft/runner/scheduler/step-log.ts'
import { isGraftError } from '@graft/sdk/format/errors.ts'
import { afterEach, describe, expect, it } from 'vitest'
import { eventually } from './helpers/eventually.ts'
import {
  createScriptedEngine,
  nextToken,
  type ScriptedEngine,
  VOCAB,
} from './helpers/scripted-engine.ts'

const row = (id: number, pending: number, decoding = false): PolicyRow => ({
  id,
  pending,
  decoding,
})
const limits = { tokenBudget: 100, chunkTokens: 30 }

describe('the batch policy', () => {
  it('gives every stream its token first, then prompt chunks, within the budget', () => {
    const running = [row(1, 500), row(2, 1, true), row(3, 1, true)]
    expect(planStep({ ...limits, running, tokenBudget: 10 })).toEqual([
      { id: 2, tokens: 1 },
      { id: 3, tokens: 1 },
      { id: 1, tokens: 8 },
    ])
  })

  it('cuts a long prompt into chunks, so that it cannot stall the streams beside it', () => {
    expect(planStep({ ...limits, running: [row(1, 500)] })).toEqual([{ id: 1, tokens: 30 }])
  })

  it('reads prompts in the order of their slots, as far as the budget goes', () => {
    const running = [row(4, 25), row(2, 500), row(3, 500), row(1, 500), row(9, 5)]
    expect(planStep({ ...limits, running })).toEqual([
      { id: 4, tokens: 25 },
      { id: 2, tokens: 30 },
      { id: 3, tokens: 30 },
      { id: 1, tokens: 15 },
    ])
  })

  it('leaves out a row whose next token is still being picked', () => {
    expect(planStep({ ...limits, running: [row(1, 0, true), row(2, 1, true)] })).toEqual([
      { id: 2, tokens: 1 },
    ])
  })
})

describe('the step log', () => {
  it('keeps the newest records and their numbers', () => {
    const log = createStepLog(3)
    for (let i = 1; i <= 5; i++) log.add({ at: i, ms: 0, rows: [] })
    expect(log.after(0).map(({ step, at }) => [step, at])).toEqual([
      [3, 3],
      [4, 4],
      [5, 5],
    ])
    expect(log.after(4).map(({ step }) => step)).toEqual([5])
    expect(log.after(5)).toEqual([])
  })
})

describe('the rate meter', () => {
  it('counts what lies within its window', () => {
    const meter = createRateMeter(10_000)
    for (let second = 0; second < 20; second++) meter.add(5, second * 1_000)
    expect(meter.perSecond(19_000)).toBeCloseTo(50 / 9, 1)
    expect(meter.perSecond(60_000)).toBe(0)
  })
})

describe('the scheduler', () => {
  const opened: Scheduler[] = []
  afterEach(async () => {
    for (const scheduler of opened.splice(0)) await scheduler[Symbol.asyncDispose]()
  })
  const start = (engine: ScriptedEngine, limits = {}): Scheduler => {
    const scheduler = createScheduler({ engine, now: Date.now, limits })
    opened.push(scheduler)
    return scheduler
  }

  interface Run {
    tokens: number[]
    cancel: () => void
    /** null, or the code it ended with. */
    ended: Promise<string | null>
  }

  function submit(scheduler: Scheduler, options: Partial<Job> & { want?: number } = {}): Run {
    const { want = 5, ...job } = options
    const tokens: number[] = []
    let end: (code: string | null) => void
    const ended = new Promise<string | null>((resolve) => {
      end = resolve
    })
    const cancel = scheduler.submit({
      requestId: 'r',
      tenant: 'acme',
      adapters: [],
      tokenIds: [5],
      logits: 'last',
      background: false,
      deadline: null,
      onLogits(logits) {
        const id = logits.indexOf(Math.max(...logits))
        tokens.push(id)
        return tokens.length < want ? id : null
      },
      onEnd: (error) => end(error?.code ?? null),
      ...job,
    })
    return { tokens, cancel, ended }
  }

  const greedy = (prompt: number[], count: number): number[] => {
    const all = [...prompt]
    for (let i = 0; i < count; i++) all.push(nextToken(all.at(-1)!, all.length - 1, 0))
    return all.slice(prompt.length)
  }

  it('feeds a prompt in chunks and then its own tokens, one a step', async () => {
    const engine = createScriptedEngine()
    const prompt = Array.from({ length: 70 }, (_, i) => i % 40)
    const run = submit(start(engine, { chunkTokens: 30 }), { tokenIds: prompt, want: 3 })
    expect(await run.ended).toBeNull()
    expect(run.tokens).toEqual(greedy(prompt, 3))
    expect(engine.steps.map(([r]) => [r!.tokenIds.length, r!.logits])).toEqual([
      [30, 'none'],
      [30, 'none'],
      [10, 'last'],
      [1, 'last'],
      [1, 'last'],
    ])
    expect(engine.events).toEqual(['open 1', 'close 1'])
  })

  it('ends a row that the engine refuses, and no row beside it', async () => {
    const engine = createScriptedEngine()
    engine.delayMs = 1
    const scheduler = start(engine)
    const good = submit(scheduler, { tokenIds: [5], want: 8 })
    const bad = submit(scheduler, { tenant: 'globex', tokenIds: [VOCAB + 1] })
    expect(await bad.ended).toBe('ERR_REQUEST_INVALID')
    expect(await good.ended).toBeNull()
    expect(good.tokens).toEqual(greedy([5], 8))
    for (let i = 0; i < 4; i++) await submit(scheduler, { tokenIds: [VOCAB + i] }).ended
    expect(scheduler.healthy).toBe(true)
    expect(engine.events.filter((event) => event.startsWith('open'))).toHaveLength(6)
    expect(engine.events.filter((event) => event.startsWith('close'))).toHaveLength(6)
  })

  it('lets a newcomer join the running batch and gives both what they would get alone', async () => {
    const engine = createScriptedEngine()
    engine.delayMs = 1
    const scheduler = start(engine)
    const first = submit(scheduler, { want: 1e9 })
    await eventually(() => first.tokens.length).toBeGreaterThan(3)
    const second = submit(scheduler, { tokenIds: [8, 9], want: 5 })
    expect(await second.ended).toBeNull()
    first.cancel()
    await first.ended
    expect(first.tokens).toEqual(greedy([5], first.tokens.length))
    expect(second.tokens).toEqual(greedy([8, 9], 5))
    expect(engine.steps.some((rows) => rows.length === 2)).toBe(true)
    expect(scheduler.log.after(0)).toHaveLength(engine.steps.length)
  })

  it('frees the slot of a cancelled request before the next step', async () => {
    const engine = createScriptedEngine({ slots: 1 })
    engine.delayMs = 5
    const scheduler = start(engine)
    const endless = submit(scheduler, { want: 1e9 })
    const next = submit(scheduler, { want: 2 })
    await eventually(() => endless.tokens.length).toBeGreaterThan(2)
    const before = engine.steps.length
    endless.cancel()
    expect(await endless.ended).toBe('ERR_CANCELLED')
    // At most the step that was under way ran with it.
    expect(engine.steps.length - before).toBeLessThanOrEqual(1)
    expect(await next.ended).toBeNull()
    expect(engine.events).toEqual(['open 1', 'close 1', 'open 2', 'close 2'])
  })

  it('ends at its deadline, running or waiting', async () => {
    const engine = createScriptedEngine({ slots: 1 })
    engine.delayMs = 5
    const scheduler = start(engine)
    const deadline = Date.now() + 60
    const running = submit(scheduler, { want: 1e9, deadline })
    const waiting = submit(scheduler, { deadline })
    expect(await waiting.ended).toBe('ERR_DEADLINE')
    expect(await running.ended).toBe('ERR_DEADLINE')
    expect(waiting.tokens).toEqual([])
  })

  it('fails a row that is not finite, alone', async () => {
    const engine = createScriptedEngine()
    engine.poisoned.add(1)
    const scheduler = start(engine)
    const bad = submit(scheduler)
    const good = submit(scheduler)
    expect(await bad.ended).toBe('ERR_NON_FINITE')
    expect(await good.ended).toBeNull()
    expect(good.tokens).toEqual(greedy([5], 5))
  })

  it('ends every running request when the engine fails, and serves the next', async () => {
    const engine = createScriptedEngine({ slots: 2 })
    engine.delayMs = 2
    const scheduler = start(engine)
    const runs = [submit(scheduler, { want: 1e9 }), submit(scheduler, { want: 1e9 })]
    await eventually(() => runs[1]!.tokens.length).toBeGreaterThan(1)
    engine.failNext = new Error('the device is gone')
    expect(await Promise.all(runs.map((run) => run.ended))).toEqual([
      'ERR_RUNNER_FAILED',
      'ERR_RUNNER_FAILED',
    ])
    expect(await submit(scheduler).ended).toBeNull()
    expect(scheduler.healthy).toBe(true)
  })

  it('is unhealthy once three steps in a row have failed', async () => {
    const engine = createScriptedEngine()
    const scheduler = start(engine)
    for (let i = 0; i < 3; i++) {
      engine.failNext = new Error('gone')
      await submit(scheduler).ended
    }
    expect(scheduler.healthy).toBe(false)
  })

  it('refuses more than its queue holds, with the time until there is room', async () => {
    const engine = createScriptedEngine({ slots: 1 })
    engine.delayMs = 20
    const scheduler = start(engine, { maxWaiting: 2 })
    const runs = [1, 2, 3].map(() => submit(scheduler, { want: 1e9 }))
    await eventually(() => scheduler.running).toBe(1)
    try {
      submit(scheduler)
      expect.unreachable()
    } catch (e) {
      expect(e).toMatchObject({ code: 'ERR_OVERLOADED' })
      expect(isGraftError(e) && e.retryAfter).toBeGreaterThanOrEqual(1)
    }
    for (const run of runs) run.cancel()
    await Promise.all(runs.map((run) => run.ended))
    expect(await submit(scheduler).ended).toBeNull()
  })

  it('gives a quiet tenant its answer while a loud one has a hundred waiting', async () => {
    const engine = createScriptedEngine({ slots: 2 })
    const scheduler = start(engine)
    const order: string[] = []
    const loud = Array.from({ length: 100 }, () => submit(scheduler, { tenant: 'loud' }))
    for (const run of loud) void run.ended.then(() => order.push('loud'))
    const quiet = submit(scheduler, { tenant: 'quiet' })
    void quiet.ended.then(() => order.push('quiet'))
    await Promise.all([...loud, quiet].map((run) => run.ended))
    expect(order.indexOf('quiet')).toBeLessThan(4)
  })

  it('serves what waits in parts: both of two tenants finish within a third of each other', async () => {
    const engine = createScriptedEngine({ slots: 4 })
    const scheduler = start(engine)
    const done = { a: 0, b: 0 }
    const runs = (['a', 'b'] as const).flatMap((tenant) =>
      Array.from({ length: tenant === 'a' ? 40 : 10 }, () => {
        const run = submit(scheduler, { tenant })
        void run.ended.then(() => done[tenant]++)
        return { tenant, run }
      }),
    )
    await Promise.all(runs.filter((r) => r.tenant === 'b').map((r) => r.run.ended))
    expect(done.a).toBeGreaterThan(5)
    expect(done.a).toBeLessThan(17)
    await Promise.all(runs.map((r) => r.run.ended))
  })

  it('scores a prompt beside running rows without counting as a request', async () => {
    const engine = createScriptedEngine()
    const scheduler = start(engine, { chunkTokens: 2 })
    const seen: number[] = []
    const score = submit(scheduler, {
      tokenIds: [1, 2, 3, 4, 5],
      logits: 'all',
      background: true,
      onLogits(logits) {
        seen.push(logits.length / engine.info.vocab)
        return null
      },
    })
    expect(scheduler.waiting).toBe(0)
    expect(await score.ended).toBeNull()
    expect(seen).toEqual([2, 2, 1])
  })
})

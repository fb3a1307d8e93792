import type { Engine } from '@graft/runner/engine/engine.ts'
import { createScheduler } from '@graft/runner/scheduler/scheduler.ts'
import { isGraftError } from '@graft/sdk/format/errors.ts'
import { describe, expect, it } from 'vitest'
import { mulberry32 } from '../random.ts'
import { createScriptedEngine } from './helpers/scripted-engine.ts'

const SLOTS = 8
const MAX_WAITING = 32
/** Milliseconds of one step. */
const STEP_MS = 25
const MEAN_TOKENS = 40
/** Sequences a second that the engine can serve. */
const CAPACITY = (SLOTS * 1_000) / STEP_MS / MEAN_TOKENS

interface Outcome {
  refused: number
  /** Callers that came back when they were told to. */
  back: number
  /** Of these, how many found room. */
  room: number
  served: number
  /** Highest number of sequences that waited. */
  most: number
  /** Part of the slots that ran, over all steps but the last. */
  busy: number
}

/** Runs the real scheduler over simulated time: a step takes STEP_MS, and callers come while it runs. */
async function simulate(options: {
  seed: number
  seconds: number
  /** Arrivals as a multiple of what can be served, at this time. */
  load: (second: number) => number
  tenant: (random: number) => string
  /** Part of the refused that come back. */
  faithful: number
}): Promise<Outcome> {
  const random = mulberry32(options.seed)
  let now = 1_000_000
  const begin = now
  let callers = 0
  let steps = 0
  let rowsRun = 0
  const events: { at: number; run: () => void }[] = []
  const outcome: Outcome = { refused: 0, back: 0, room: 0, served: 0, most: 0, busy: 0 }
  const scripted = createScriptedEngine({ slots: SLOTS })
  const logits = Float32Array.of(1)
  const engine: Engine = {
    ...scripted,
    info: scripted.info,
    open: async () => ({ cachedTokens: 0 }),
    close: async () => {},
    async step(rows) {
      now += STEP_MS
      if (now - begin < options.seconds * 1_000) {
        steps++
        rowsRun += rows.length
      }
      pump()
      return {
        rows: rows.map(({ sequence }) => ({ sequence, logits, finite: true })),
        ms: STEP_MS,
      }
    },
  }
  const scheduler = createScheduler({
    engine,
    now: () => now,
    limits: { maxWaiting: MAX_WAITING, chunkTokens: 64 },
  })
  const exponential = (mean: number): number => -mean * Math.log(1 - random())

  function ask(tenant: string, key: string, tokens: number, returning: boolean): void {
    let left = tokens
    try {
      scheduler.submit({
        requestId: 'r',
        key,
        tenant,
        adapters: [],
        tokenIds: [1],
        maxTokens: 200,
        logits: 'last',
        background: false,
        deadline: null,
        onLogits: () => (--left > 0 ? 1 : null),
        onEnd: () => outcome.served++,
      })
      if (returning) outcome.room++
    } catch (e) {
      if (!isGraftError(e) || e.code !== 'ERR_OVERLOADED') throw e
      outcome.refused++
      if (random() >= options.faithful) return
      events.push({
        // A caller's timer is late by up to a second.
        at: now + e.retryAfter! * 1_000 + random() * 1_000,
        run() {
          outcome.back++
          ask(tenant, key, tokens, true)
        },
      })
    }
    outcome.most = Math.max(outcome.most, scheduler.waiting)
  }

  function arrive(): void {
    const second = (now - begin) / 1_000
    if (second > options.seconds) return
    ask(
      options.tenant(random()),
      `${++callers}`,
      Math.max(1, Math.round(exponential(MEAN_TOKENS))),
      false,
    )
    const rate = CAPACITY * options.load(second)
    events.push({ at: now + exponential(1_000 / rate), run: arrive })
  }

  /** All that has happened by now, in order. */
  function pump(): void {
    for (;;) {
      let next = -1
      for (let i = 0; i < events.length; i++)
        if (events[i]!.at <= now && (next < 0 || events[i]!.at < events[next]!.at)) next = i
      if (next < 0) return
      events.splice(next, 1)[0]!.run()
    }
  }

  arrive()
  while (events.length > 0) {
    if (scheduler.running + scheduler.waiting === 0) now = Math.min(...events.map(({ at }) => at))
    pump()
    await scheduler.idle()
  }
  await scheduler[Symbol.asyncDispose]()
  outcome.busy = rowsRun / (steps * SLOTS)
  return outcome
}

const tenants = (random: number): string => (random < 0.5 ? 'loud' : `t${Math.floor(random * 20)}`)

describe('Retry-After', () => {
  it.each([
    ['a steady load a quarter above what can be served', () => 1.25, 1, 0.95],
    ['twice what can be served, all of the refused coming back', () => 2, 1, 0.95],
    ['twice what can be served, half of the refused going elsewhere', () => 2, 0.5, 0.95],
    ['bursts of five times as much', (second: number) => (second % 60 < 12 ? 5 : 0.5), 1, 0.7],
  ])(
    'is true for 95 of 100 callers, with slots busy, under %s',
    async (_, load, faithful, busy) => {
      const total = { back: 0, room: 0 }
      for (const seed of [1, 2]) {
        const run = await simulate({ seed, seconds: 180, load, tenant: tenants, faithful })
        total.back += run.back
        total.room += run.room
        expect(run.most).toBeLessThanOrEqual(2 * MAX_WAITING + SLOTS)
        // A time that is too late would be true as well, and leave slots empty.
        expect(run.busy).toBeGreaterThan(busy)
      }
      expect(total.back).toBeGreaterThan(200)
      expect(total.room / total.back).toBeGreaterThanOrEqual(0.95)
    },
  )
})

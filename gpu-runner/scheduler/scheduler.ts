import type { Digest } from '@graft/sdk/format/digest.ts'
import { GraftError, isGraftError } from '@graft/sdk/format/errors.ts'
import type { Engine, RowResult, StepRow } from '../engine/engine.ts'
import { lift, type PolicyRow, planStep } from './policy.ts'
import { createRateMeter } from './rate.ts'
import { createStepLog, type StepLog } from './step-log.ts'

/** One sequence's work. The scheduler calls it; none of its functions may throw or wait. */
export interface Job {
  requestId: string
  tenant: string
  adapters: { digest: Digest; weight: number }[]
  /** Fed before the first answer token; at least one. */
  tokenIds: readonly number[]
  /** 'all': onLogits sees every fed position; 'last': only the newest once the prompt is read. */
  logits: 'last' | 'all'
  /** Work of the runner itself (admission), on the share of the tenant that asked: not counted as a request. */
  background: boolean
  /** Unix milliseconds; null = none. */
  deadline: number | null
  /** The job got its slot. */
  onOpen?(opened: { cachedTokens: number; merged: boolean }): void
  /** [count, vocab] logits of the positions just fed. Gives the token to feed next; null ends the job. */
  onLogits(logits: Float32Array): number | null
  /** The job is over and its slot is free: null when it ended by itself. */
  onEnd(error: GraftError | null): void
}

export interface SchedulerLimits {
  /** Most tokens of one step. @default 512 */
  tokenBudget: number
  /** Most prompt tokens of one row and step. @default 128 */
  chunkTokens: number
  /** Most foreground sequences that wait for a slot. @default 256 */
  maxWaiting: number
}
export const SCHEDULER_LIMITS: SchedulerLimits = {
  tokenBudget: 512,
  chunkTokens: 128,
  maxWaiting: 256,
}

export interface Scheduler extends AsyncDisposable {
  /** Queues a job; the function cancels it: its slot is free before the next step. @throws ERR_OVERLOADED */
  submit(job: Job): () => void
  /** @throws ERR_OVERLOADED when `count` more sequences would not fit the queue */
  assertRoom(count: number): void
  readonly running: number
  readonly waiting: number
  /** Answer tokens per second over the last ten seconds. */
  tokensPerSecond(): number
  readonly log: StepLog
  /** false after ENGINE_FAILURES failed steps in a row: the engine is beyond help. */
  readonly healthy: boolean
  /** Resolves when nothing runs or waits. */
  idle(): Promise<void>
}

export interface SchedulerDeps {
  engine: Engine
  now: () => number
  limits?: Partial<SchedulerLimits>
  onStep?: (step: { ms: number; rows: number; tokens: number }) => void
}

/** One bad step may be a hostile input; three in a row are the engine. */
const ENGINE_FAILURES = 3
/** Served counters of tenants that left are dropped beyond this many. */
const MAX_TENANTS_REMEMBERED = 10_000

interface Sequence {
  id: number
  job: Job
  /** Tokens still to be fed. */
  pending: number[]
  decoding: boolean
  open: boolean
  over: boolean
  error: GraftError | null
}

/** What Engine.step refuses for one row's sake, before anything is computed. */
const isRowRefusal = (e: unknown): e is GraftError =>
  isGraftError(e) && (e.code === 'ERR_PROMPT_TOO_LONG' || e.code === 'ERR_REQUEST_INVALID')

export function createScheduler({ engine, now, limits, onStep }: SchedulerDeps): Scheduler {
  const { tokenBudget, chunkTokens, maxWaiting } = { ...SCHEDULER_LIMITS, ...limits }
  const sequences = new Map<number, Sequence>()
  const served = new Map<string, number>()
  const log = createStepLog()
  const produced = createRateMeter()
  const finished = createRateMeter(60_000)
  const idlers: (() => void)[] = []
  let nextId = 1
  let failures = 0
  let wake: (() => void) | null = null
  let nap: ReturnType<typeof setTimeout> | undefined
  let closed = false

  const count = (open: boolean): number => {
    let n = 0
    for (const s of sequences.values()) if (s.open === open && !s.over && !s.job.background) n++
    return n
  }

  const retryAfter = (): number => {
    const rate = finished.perSecond(now())
    return rate > 0 ? Math.max(1, Math.ceil(count(false) / rate)) : 1
  }

  const assertRoom = (more: number): void => {
    if (count(false) + more <= maxWaiting + Math.max(0, engine.info.slots - count(true))) return
    const seconds = retryAfter()
    throw new GraftError(
      'ERR_OVERLOADED',
      `the runner's queue holds ${count(false)} of at most ${maxWaiting} sequences; try again in ${seconds} s`,
      { retryAfter: seconds },
    )
  }

  /** Marks a sequence as over; the loop closes its slot before anything else runs, then tells the job. */
  function end(sequence: Sequence, error: GraftError | null): void {
    if (sequence.over) return
    sequence.over = true
    sequence.error = error
    wake?.()
  }

  /** The engine takes one call at a time, so slots are only closed here, between steps. */
  async function sweep(): Promise<void> {
    for (const sequence of [...sequences.values()]) {
      if (!sequence.over) continue
      sequences.delete(sequence.id)
      if (sequence.open) await engine.close(sequence.id).catch(() => {})
      if (!sequence.job.background) finished.add(1, now())
      sequence.job.onEnd(sequence.error)
    }
  }

  function expire(): void {
    const late = new GraftError('ERR_DEADLINE', 'the deadline of the request passed while it ran')
    for (const s of sequences.values())
      if (s.job.deadline !== null && s.job.deadline <= now()) end(s, late)
  }

  const view = (s: Sequence): PolicyRow => ({
    id: s.id,
    tenant: s.job.tenant,
    pending: s.pending.length,
    decoding: s.decoding,
  })

  /** Opens the slots that the plan asks for; a sequence that cannot be opened fails alone. */
  async function openAll(planned: Sequence[]): Promise<void> {
    for (const sequence of planned) {
      if (sequence.open || sequence.over) continue
      try {
        const { cachedTokens, merged = false } = await engine.open(
          sequence.id,
          sequence.job.adapters,
        )
        sequence.open = true
        sequence.job.onOpen?.({ cachedTokens, merged })
      } catch (e) {
        end(sequence, asRunnerFailure(e))
      }
    }
  }

  /** Hands a row to its job. 'goes on' while there is more to feed; else how the sequence ends. */
  function deliver(sequence: Sequence, fed: number, row: RowResult): GraftError | null | 'goes on' {
    const { job, pending } = sequence
    if (!row.finite)
      return new GraftError(
        'ERR_NON_FINITE',
        'the values of this request overflowed; its adapter or its prompt is at fault',
      )
    pending.splice(0, fed)
    if (pending.length > 0 && job.logits === 'last') return 'goes on'
    const next = job.onLogits(row.logits)
    if (pending.length > 0) return 'goes on'
    if (next === null) return null
    pending.push(next)
    sequence.decoding = true
    return 'goes on'
  }

  function settle(sequence: Sequence, fed: number, row: RowResult | undefined): void {
    if (sequence.over) return
    const { tenant } = sequence.job
    served.set(tenant, (served.get(tenant) ?? 0) + fed)
    try {
      if (!row) throw new Error('the step gave no row for the sequence')
      const outcome = deliver(sequence, fed, row)
      if (sequence.job.logits === 'last' && row.logits.length > 0) produced.add(1, now())
      if (outcome !== 'goes on') end(sequence, outcome)
    } catch (e) {
      end(sequence, asRunnerFailure(e))
    }
  }

  /** The engine refuses a row before it computes any: then each row goes alone, and only the refused one ends. */
  async function run(
    fed: { sequence: Sequence }[],
    rows: StepRow[],
  ): Promise<{ rows: RowResult[]; ms: number }> {
    try {
      return await engine.step(rows)
    } catch (refusal) {
      if (!isRowRefusal(refusal)) throw refusal
    }
    const results: RowResult[] = []
    let ms = 0
    for (const [i, row] of rows.entries()) {
      try {
        const alone = await engine.step([row])
        results.push(...alone.rows)
        ms += alone.ms
      } catch (refusal) {
        if (!isRowRefusal(refusal)) throw refusal
        end(fed[i]!.sequence, refusal)
      }
    }
    return { rows: results, ms }
  }

  async function step(): Promise<boolean> {
    await sweep()
    expire()
    const alive = [...sequences.values()].filter((s) => !s.over)
    const running = alive.filter((s) => s.open)
    const plan = planStep({
      running: running.map(view),
      waiting: alive.filter((s) => !s.open).map(view),
      freeSlots: engine.info.slots - running.length,
      tokenBudget,
      chunkTokens,
      served,
    })
    await openAll(plan.map(({ id }) => sequences.get(id)!))
    const fed = plan.flatMap(({ id, tokens }) => {
      const sequence = sequences.get(id)
      return sequence?.open && !sequence.over ? [{ sequence, tokens }] : []
    })
    if (fed.length === 0) return false
    const rows = fed.map(({ sequence, tokens }): StepRow => {
      const whole = tokens === sequence.pending.length
      const { logits } = sequence.job
      return {
        sequence: sequence.id,
        tokenIds: sequence.pending.slice(0, tokens),
        logits: logits === 'all' ? 'all' : whole ? 'last' : 'none',
      }
    })
    try {
      const result = await run(fed, rows)
      const byId = new Map(result.rows.map((row) => [row.sequence, row]))
      failures = 0
      log.add({
        at: now(),
        ms: result.ms,
        rows: fed.map(({ sequence: { job }, tokens }) => ({
          requestId: job.requestId,
          tenant: job.tenant,
          adapters: job.adapters.map((a) => a.digest),
          tokens,
        })),
      })
      onStep?.({ ms: result.ms, rows: rows.length, tokens: fed.reduce((n, f) => n + f.tokens, 0) })
      for (const { sequence, tokens } of fed) settle(sequence, tokens, byId.get(sequence.id))
    } catch (e) {
      failures++
      // What the engine holds of any open sequence is unknown now.
      for (const s of sequences.values()) if (s.open) end(s, asRunnerFailure(e))
    }
    await sweep()
    return true
  }

  async function loop(): Promise<void> {
    while (!closed) {
      const worked = await step()
      if (sequences.size === 0) for (const resolve of idlers.splice(0)) resolve()
      if (worked) {
        // Lets connections be read and written between two steps of a busy engine.
        await new Promise((resolve) => setImmediate(resolve))
        continue
      }
      if ([...sequences.values()].some((s) => s.over)) continue
      await new Promise<void>((resolve) => {
        wake = resolve
        // A sequence that waits for a slot still has a deadline.
        if (sequences.size > 0) nap = setTimeout(resolve, 20)
      })
      clearTimeout(nap)
      wake = null
    }
    const shut = new GraftError('ERR_RUNNER_FAILED', 'the runner is shutting down')
    for (const s of sequences.values()) end(s, shut)
    await sweep()
  }
  const looping = loop()

  return {
    submit(job) {
      if (!job.background) assertRoom(1)
      const active = new Set<string>()
      for (const s of sequences.values()) if (!s.over) active.add(s.job.tenant)
      if (served.size > MAX_TENANTS_REMEMBERED)
        for (const tenant of served.keys()) if (!active.has(tenant)) served.delete(tenant)
      lift(served, job.tenant, active)
      const sequence: Sequence = {
        id: nextId++,
        job,
        pending: [...job.tokenIds],
        decoding: false,
        open: false,
        over: false,
        error: null,
      }
      sequences.set(sequence.id, sequence)
      wake?.()
      return () => end(sequence, new GraftError('ERR_CANCELLED', 'the request was cancelled'))
    },
    assertRoom,
    get running() {
      return count(true)
    },
    get waiting() {
      return count(false)
    },
    tokensPerSecond: () => produced.perSecond(now()),
    log,
    get healthy() {
      return failures < ENGINE_FAILURES
    },
    idle: () =>
      sequences.size === 0 ? Promise.resolve() : new Promise((resolve) => idlers.push(resolve)),
    async [Symbol.asyncDispose]() {
      closed = true
      wake?.()
      await looping
    },
  }
}

const asRunnerFailure = (e: unknown): GraftError =>
  isGraftError(e)
    ? e
    : new GraftError(
        'ERR_RUNNER_FAILED',
        'the engine failed while the request ran; send it again',
        {
          cause: e,
        },
      )

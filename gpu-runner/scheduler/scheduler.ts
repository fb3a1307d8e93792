import { GraftError, isGraftError } from '@graft/sdk/format/errors.ts'
import type { Engine, RowResult, StepRow } from '../engine/engine.ts'
import { createDoor, type Knock } from './door.ts'
import { type Claim, createFairShares } from './fair-shares.ts'
import type { Job } from './job.ts'
import { planStep } from './policy.ts'
import { prefixKeys } from './prefix-keys.ts'
import { createRateMeter } from './rate.ts'
import { runRows } from './run-rows.ts'
import { createStepLog, type StepLog } from './step-log.ts'

export interface SchedulerLimits {
  /** Most tokens of one step; twice the engine's slots where that is more. @default 512 */
  tokenBudget: number
  /** Most prompt tokens of one row and step. @default 128 */
  chunkTokens: number
  /** Most foreground sequences that wait for a slot. @default 256 */
  maxWaiting: number
  /**
   * Prompts that tenants have in common are run once for all of them. Off, because how fast an answer starts would tell
   * one tenant that another has sent the same text. @default false
   */
  sharePrefixes: boolean
}
export const SCHEDULER_LIMITS: SchedulerLimits = {
  tokenBudget: 512,
  chunkTokens: 128,
  maxWaiting: 256,
  sharePrefixes: false,
}

export interface Scheduler extends AsyncDisposable {
  /** Queues a job; the function cancels it: its slot is free before the next step. @throws ERR_OVERLOADED */
  submit(job: Job): () => void
  /** Queues the jobs of one request, all or none. @throws ERR_OVERLOADED */
  submitAll(jobs: readonly Job[]): (() => void)[]
  /** @throws ERR_OVERLOADED when `count` sequences more would not fit the queue */
  assertRoom(request: Pick<Job, 'tenant' | 'weight' | 'key' | 'requestId'>, count: number): void
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
interface Sequence {
  id: number
  job: Job
  /** Tokens still to be fed. */
  pending: number[]
  decoding: boolean
  /** Its next token is being picked. */
  picking: boolean
  open: boolean
  over: boolean
  error: GraftError | null
}

export function createScheduler({ engine, now, limits, onStep }: SchedulerDeps): Scheduler {
  const { tokenBudget, chunkTokens, maxWaiting, sharePrefixes } = { ...SCHEDULER_LIMITS, ...limits }
  /** In the order of arrival until they get a slot, then in the order in which they got it. */
  const sequences = new Map<number, Sequence>()
  const shares = createFairShares()
  const door = createDoor({ maxWaiting, now })
  const log = createStepLog()
  const produced = createRateMeter()
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

  const knockOf = (
    { tenant, weight = 1, requestId, key = requestId }: Parameters<Scheduler['assertRoom']>[0],
    more: number,
  ): Knock => ({
    tenant,
    weight,
    key: `${tenant}/${key}`,
    count: more,
    waiting: count(false),
    freeSlots: Math.max(0, engine.info.slots - count(true)),
    tenantWaiting: shares.waitingOf(tenant),
    share: shares.shareOf(tenant, weight),
  })

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
      shares.leave(sequence.id)
      if (sequence.open) await engine.close(sequence.id).catch(() => {})
      if (!sequence.job.background) door.left()
      sequence.job.onEnd(sequence.error)
    }
  }

  function expire(): void {
    const late = new GraftError('ERR_DEADLINE', 'the deadline of the request passed while it ran')
    for (const s of sequences.values())
      if (s.job.deadline !== null && s.job.deadline <= now()) end(s, late)
  }

  /** Gives free slots to those whose turn it is; a sequence that cannot be opened fails alone. */
  async function openNext(): Promise<void> {
    let free = engine.info.slots
    for (const s of sequences.values()) if (s.open) free--
    if (free === engine.info.slots) door.busy()
    while (free > 0) {
      const claim = shares.next()
      if (!claim) return
      const sequence = sequences.get(claim.id)!
      if (sequence.over) continue
      const { job } = sequence
      // Whoever asks for all logits must run all tokens.
      const prefix = job.logits === 'all' ? undefined : prefixKeys(engine.info, job, sharePrefixes)
      try {
        const { cachedTokens, merged = false } = await engine.open(
          sequence.id,
          job.adapters,
          prefix,
        )
        sequence.open = true
        free--
        if (!(cachedTokens >= 0 && cachedTokens < job.tokenIds.length))
          throw new Error(`the engine says that ${cachedTokens} tokens of a prompt are cached`)
        sequence.pending.splice(0, cachedTokens)
        shares.feed(sequence.id, cachedTokens)
        sequences.delete(sequence.id)
        sequences.set(sequence.id, sequence)
        job.onOpen?.({ cachedTokens, merged })
      } catch (e) {
        end(sequence, asRunnerFailure(e))
      }
    }
  }

  /** What the job said comes next, after the last token it was fed. */
  function proceed(sequence: Sequence, next: number | null): void {
    if (next === null) {
      end(sequence, null)
      return
    }
    sequence.pending.push(next)
    sequence.decoding = true
  }

  async function waitFor(sequence: Sequence, picked: Promise<number | null>): Promise<void> {
    sequence.picking = true
    try {
      const next = await picked
      if (!sequence.over) proceed(sequence, next)
    } catch (e) {
      end(sequence, asRunnerFailure(e))
    }
    sequence.picking = false
    wake?.()
  }

  /** Hands a row to its job. */
  function deliver(sequence: Sequence, fed: number, row: RowResult): void {
    const { job, pending } = sequence
    if (!row.finite)
      throw new GraftError(
        'ERR_NON_FINITE',
        'the values of this request overflowed; its adapter or its prompt is at fault',
      )
    pending.splice(0, fed)
    if (pending.length > 0 && job.logits === 'last') return
    if (job.logits === 'last') produced.add(1, now())
    const next = job.onLogits(row.logits)
    if (pending.length > 0) return
    if (next instanceof Promise) void waitFor(sequence, next)
    else proceed(sequence, next)
  }

  function settle(sequence: Sequence, fed: number, row: RowResult | undefined): void {
    if (sequence.over) return
    shares.feed(sequence.id, fed)
    try {
      if (!row) throw new Error('the step gave no row for the sequence')
      deliver(sequence, fed, row)
    } catch (e) {
      end(sequence, asRunnerFailure(e))
    }
  }

  async function step(): Promise<boolean> {
    await sweep()
    expire()
    await openNext()
    const plan = planStep({
      running: [...sequences.values()]
        .filter((s) => s.open && !s.over)
        .map(({ id, pending, decoding }) => ({ id, pending: pending.length, decoding })),
      tokenBudget: Math.max(tokenBudget, 2 * engine.info.slots),
      chunkTokens,
    })
    const fed = plan.map(({ id, tokens }) => ({ sequence: sequences.get(id)!, tokens }))
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
      const result = await runRows(engine, rows)
      for (const [id, refusal] of result.refused) end(sequences.get(id)!, refusal)
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

  function queue(job: Job): () => void {
    const { tenant, weight = 1, tokenIds } = job
    const sequence: Sequence = {
      id: nextId++,
      job,
      pending: [...tokenIds],
      decoding: false,
      picking: false,
      open: false,
      over: false,
      error: null,
    }
    sequences.set(sequence.id, sequence)
    shares.join({
      id: sequence.id,
      tenant,
      weight,
      flow: flowOf(job),
      promptTokens: tokenIds.length,
      maxTokens: job.maxTokens ?? Math.max(0, engine.info.maxPositions - tokenIds.length),
    })
    wake?.()
    return () => end(sequence, new GraftError('ERR_CANCELLED', 'the request was cancelled'))
  }

  function submitAll(jobs: readonly Job[]): (() => void)[] {
    const asked = jobs.filter(({ background }) => !background)
    if (asked.length > 0) door.enter(knockOf(asked[0]!, asked.length))
    return jobs.map(queue)
  }

  return {
    submit: (job) => submitAll([job])[0]!,
    submitAll,
    assertRoom: (request, more) => door.knock(knockOf(request, more)),
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

/** Sequences that share a tenant's turn: those with the same sum of adapters. */
const flowOf = ({ adapters }: Job): Claim['flow'] =>
  adapters.map(({ digest, weight }) => `${weight}(${digest})`).join('+')

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

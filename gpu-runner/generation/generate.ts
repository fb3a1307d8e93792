import { createHash } from 'node:crypto'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import type { SigningKey } from '@graft/sdk/format/jws.ts'
import { requestHash } from '@graft/sdk/protocol/request-hash.ts'
import type { Frame, GenerateRequest } from '@graft/sdk/protocol/runner-api.ts'
import type { EngineInfo } from '../engine/engine.ts'
import type { Constraints } from '../sampling/grammar/constraints.ts'
import type { Job } from '../scheduler/job.ts'
import type { Scheduler } from '../scheduler/scheduler.ts'
import type { Adapters, Lease } from '../tiers/adapters.ts'
import type { TextCodec } from '../tokenizer/tokenizer.ts'
import { type Choice, type ChoiceStep, createChoice } from './choice.ts'
import { createFrameQueue } from './frame-queue.ts'
import { signReceipt } from './sign-receipt.ts'

export interface GenerateDeps {
  id: string
  engine: EngineInfo
  codec: TextCodec
  scheduler: Scheduler
  adapters: Adapters
  constraints: Constraints
  key: SigningKey
  clock: () => Date
}

/** What can be refused before any byte is fetched. */
async function check(request: GenerateRequest, { engine, clock }: GenerateDeps) {
  if (request.base !== engine.base.digest)
    throw new GraftError(
      'ERR_BASE_MISMATCH',
      `base must be ${engine.base.digest} (${engine.base.name}) on this runner, got ${request.base}`,
    )
  const hash = await requestHash(request)
  if (hash !== request.requestHash)
    throw new GraftError(
      'ERR_REQUEST_INVALID',
      expected('requestHash', `${hash}, the hash of this request's facts`, request.requestHash),
    )
  const foreign = Object.keys(request.sampling.logitBias).find((id) => Number(id) >= engine.vocab)
  if (foreign !== undefined)
    throw new GraftError(
      'ERR_REQUEST_INVALID',
      expected('sampling.logitBias', `ids below the vocabulary of ${engine.vocab}`, foreign),
    )
  if (request.resume && request.resume.length !== request.n)
    throw new GraftError(
      'ERR_REQUEST_INVALID',
      expected('resume', `one entry per choice (${request.n})`, request.resume.length),
    )
  if (request.deadline !== null && request.deadline <= clock().getTime())
    throw new GraftError('ERR_DEADLINE', 'the deadline of the request passed before it began')
  return hash
}

/** Aborts with ERR_DEADLINE when the request's time is over while adapters are on their way. */
function withDeadline(request: GenerateRequest, signal: AbortSignal, clock: () => Date) {
  if (request.deadline === null) return { signal, clear: () => {} }
  const late = new AbortController()
  const timer = setTimeout(
    () =>
      late.abort(
        new GraftError('ERR_DEADLINE', 'the deadline of the request passed while adapters loaded'),
      ),
    // Node fires a longer timer at once.
    Math.min(request.deadline - clock().getTime(), 2 ** 31 - 1),
  )
  return { signal: AbortSignal.any([signal, late.signal]), clear: () => clearTimeout(timer) }
}

/** What the scheduler knows a request by: when it is repeated it has another id and perhaps another seed. */
const queued = ({ requestId, tenant, tenantWeight, prompt, adapters, n }: GenerateRequest) => ({
  requestId,
  tenant,
  weight: tenantWeight ?? 1,
  key: createHash('sha256')
    .update(JSON.stringify([prompt, adapters.map(({ digest, weight }) => [digest, weight]), n]))
    .digest('hex'),
})

/** Answer positions that are left in the base's window. */
function fitTokens(promptTokens: number, lease: Lease, maxTokens: number, engine: EngineInfo) {
  const room = engine.maxPositions - lease.virtualTokens - promptTokens
  if (room < 1)
    throw new GraftError(
      'ERR_PROMPT_TOO_LONG',
      `prompt must leave room for an answer in ${engine.maxPositions - lease.virtualTokens} positions, got ${promptTokens} tokens; shorten it`,
    )
  return Math.min(maxTokens, room)
}

/**
 * Runs a request. What is wrong with it is thrown before a frame exists, so that it travels as an HTTP status;
 * what happens later is an `error` frame. Returning from the iterator cancels the request.
 */
export async function generate(
  deps: GenerateDeps,
  request: GenerateRequest,
  signal: AbortSignal,
): Promise<AsyncIterableIterator<Frame>> {
  const { codec, engine, scheduler, adapters, constraints, clock } = deps
  const hash = await check(request, deps)
  scheduler.assertRoom(queued(request), request.n)
  const promptIds = codec.encodePrompt(request.prompt)
  const { responseFormat } = request.sampling
  const constrain = responseFormat ? await constraints.prepare(responseFormat) : null
  const timed = withDeadline(request, signal, clock)
  const lease = await adapters
    .acquire(request.adapters, request.tenant, timed.signal)
    .finally(timed.clear)
  const choices: Choice[] = []
  try {
    const maxTokens = fitTokens(promptIds.length, lease, request.maxTokens, engine)
    scheduler.assertRoom(queued(request), request.n)
    const { sampling } = request
    for (let choice = 0; choice < request.n; choice++) {
      const resumed = request.resume?.[choice]?.tokenIds ?? []
      const constraint = constrain?.(resumed.filter((id) => !codec.eosTokenIds.has(id))) ?? null
      const options = { codec, promptIds, resumed, sampling, choice, maxTokens, constraint }
      choices.push(createChoice(options))
    }
    return run(deps, request, hash, promptIds, maxTokens, choices, lease, signal)
  } catch (e) {
    for (const choice of choices) choice.close()
    lease.release()
    throw e
  }
}

function run(
  deps: GenerateDeps,
  request: GenerateRequest,
  hash: GenerateRequest['requestHash'],
  promptIds: number[],
  maxTokens: number,
  choices: Choice[],
  lease: Lease,
  signal: AbortSignal,
): AsyncIterableIterator<Frame> {
  const { scheduler, engine } = deps
  const tokens = () => ({
    prompt: promptIds.length,
    cached: cached ?? 0,
    completion: choices.reduce((n, { completion }) => n + completion, 0),
  })
  let cancels: (() => void)[] = []
  const cancelAll = (): void => {
    for (const cancel of cancels) cancel()
  }
  const queue = createFrameQueue(cancelAll)
  /** Prompt tokens that the first choice to get a slot did not run; what resumed tokens saved is not the prompt's. */
  let cached: number | null = null
  /** Frames of choices that had ended elsewhere, told once the request is accepted. */
  const early: Frame[] = []
  let open = choices.length
  let failed = false
  /** By choice that ran here: the adapter's weights were part of its base. */
  const merged: boolean[] = []

  async function close(): Promise<void> {
    lease.release()
    for (const choice of choices) choice.close()
    signal.removeEventListener('abort', cancelAll)
    if (failed) return queue.end()
    const reasons = choices.map(({ reason }) => reason)
    const facts = { request, requestHash: hash, tokens: tokens(), reasons, merged }
    const { id, key, clock } = deps
    const runner = { id, build: engine.build, base: engine.base.digest, key, clock }
    queue.push({ type: 'done', tokens: tokens(), receipt: await signReceipt(facts, runner) })
    queue.end()
  }

  function over(error: GraftError | null): void {
    if (error && !failed) {
      failed = true
      queue.push(errorFrame(error))
      cancelAll()
    }
    if (--open === 0) void close().catch((e) => queue.fail(e))
  }

  /** Before the first token and not at once: only then is known what was cached. */
  function accept(cachedTokens: number): void {
    if (cached !== null) return
    cached = Math.min(cachedTokens, promptIds.length)
    queue.push({ type: 'accepted', promptTokens: promptIds.length, cachedTokens: cached })
    for (const frame of early.splice(0)) queue.push(frame)
  }

  function emit({ frames, next }: ChoiceStep): number | null {
    for (const frame of frames) queue.push(frame)
    return next
  }

  if (choices.every(({ ended }) => ended)) accept(0)
  const jobs: Job[] = []
  for (const [i, choice] of choices.entries()) {
    if (choice.ended) {
      if (cached === null) early.push(...choice.ended)
      else for (const frame of choice.ended) queue.push(frame)
      over(null)
      continue
    }
    const resumed = request.resume?.[i]?.tokenIds ?? []
    jobs.push({
      ...queued(request),
      adapters: lease.adapters,
      tokenIds: [...promptIds, ...resumed],
      maxTokens: maxTokens - resumed.length,
      logits: 'last',
      background: false,
      deadline: request.deadline,
      onOpen(opened) {
        accept(opened.cachedTokens)
        merged.push(opened.merged)
      },
      onLogits(logits) {
        const wait = choice.waits()
        return wait ? wait.then(() => emit(choice.step(logits))) : emit(choice.step(logits))
      },
      onEnd: over,
    })
  }
  cancels = scheduler.submitAll(jobs)
  signal.addEventListener('abort', cancelAll)
  if (signal.aborted) cancelAll()
  return queue.frames()
}

/** Worth another runner: what is this one's own trouble. */
const RETRYABLE = ['ERR_RUNNER_FAILED', 'ERR_OVERLOADED', 'ERR_BANK_FULL', 'ERR_INTERNAL']

export const errorFrame = ({ code, message }: GraftError): Frame => ({
  type: 'error',
  code,
  message,
  retryable: RETRYABLE.includes(code),
})

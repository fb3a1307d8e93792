import { GraftError, isGraftError } from '@graft/sdk/format/errors.ts'
import { signCompact } from '@graft/sdk/format/jws.ts'
import type { OperationKind } from '@graft/sdk/format/operations.ts'
import type { FinishReason, Receipt } from '@graft/sdk/protocol/receipts.ts'
import type { Frame, GenerateRequest } from '@graft/sdk/protocol/runner-api.ts'
import type { EdgeDeps } from '../deps.ts'
import type { Runner } from '../fleet/fleet.ts'
import { type CallPrice, charge, sharesOf, type TokenCounts } from '../ledger/prices.ts'
import type { Metrics } from '../metrics/metrics.ts'
import { rankRunners } from '../routing/rank-runners.ts'
import { type RunnerClient, RunnerFailure } from '../upstream/runner-client.ts'
import { EXTENSION_TOKENS } from './bounds.ts'
import type { CallHold } from './call-hold.ts'
import { checkRunnerReceipt } from './check-receipt.ts'
import type { OpenCalls } from './open-calls.ts'

/** A call that is resolved, priced and paid for up to its hold. */
export interface CallPlan {
  model: string
  request: GenerateRequest
  /** What its adapters are made of: a runner must know every kind. */
  operations: OperationKind[]
  price: CallPrice
  hold: CallHold
  /** Whether the caller gets tokens as they come; decides what an abort costs. */
  stream: boolean
}

export type CallEvent =
  | Extract<Frame, { type: 'tokens' }>
  | { type: 'finish'; choice: number; reason: FinishReason }
  | { type: 'end'; tokens: TokenCounts; receipt: string }

export interface CallDeps
  extends Pick<EdgeDeps, 'fleet' | 'receiptKey' | 'currency' | 'clock' | 'log'> {
  runners: RunnerClient
  open: OpenCalls
  metrics: Metrics
}

/** Ends a call early, with what is billed for it. */
class Ended extends Error {
  readonly outcome: Receipt['outcome']
  readonly error: GraftError
  constructor(outcome: Receipt['outcome'], error: GraftError) {
    super(error.message)
    this.outcome = outcome
    this.error = error
  }
}

/**
 * Runs one call to its end: routes, retries elsewhere before the first token, continues elsewhere after it, extends
 * the hold, and resolves it exactly once, whatever happens. What was yielded is what is billed:
 * complete and client abort = tokens yielded; a runner's failure that nobody continues = 0.
 * Stop it by aborting the signal, then calling return().
 * @throws GraftError once the hold is resolved
 */
export async function* runCall(
  deps: CallDeps,
  plan: CallPlan,
  signal: AbortSignal,
): AsyncGenerator<CallEvent, void> {
  const state = createState(plan.request.n)
  let resolved = false
  async function resolve(outcome: Receipt['outcome'], runnerReceipt: string | null) {
    resolved = true
    const tokens = billedTokens(plan, state, outcome)
    return resolveCall(deps, plan, outcome, tokens, runnerReceipt, state.resumed)
  }
  try {
    const runnerReceipt = yield* attempts(deps, plan, state, signal)
    const { receipt, tokens } = await resolve('complete', runnerReceipt)
    yield { type: 'end', tokens, receipt }
  } catch (error) {
    if (resolved) throw error
    const ended = signal.aborted ? aborted() : asEnded(error)
    await resolve(ended.outcome, null)
    throw ended.error
  } finally {
    if (!resolved) await resolve('client_abort', null)
  }
}

interface CallState {
  /** Token ids yielded, per choice. */
  sent: number[][]
  finished: boolean[]
  /** As the first runner counted: who continues reads the prompt again, and that is not billed. */
  prompt: { prompt: number; cached: number } | null
  /** Tokens yielded before the runner now at work took over. */
  resumed: number
}

const createState = (n: number): CallState => ({
  sent: Array.from({ length: n }, () => []),
  finished: Array.from({ length: n }, () => false),
  prompt: null,
  resumed: 0,
})

const completionOf = (state: CallState): number =>
  state.sent.reduce((sum, tokenIds) => sum + tokenIds.length, 0)

const tokensOf = (state: CallState): TokenCounts => ({
  prompt: state.prompt?.prompt ?? 0,
  cached: state.prompt?.cached ?? 0,
  completion: completionOf(state),
})

const NOTHING: TokenCounts = { prompt: 0, cached: 0, completion: 0 }

function billedTokens(plan: CallPlan, state: CallState, outcome: Receipt['outcome']): TokenCounts {
  if (outcome === 'complete') return tokensOf(state)
  if (outcome === 'failed' || !plan.stream || completionOf(state) === 0) return NOTHING
  return tokensOf(state)
}

const aborted = () =>
  new Ended('client_abort', new GraftError('ERR_CANCELLED', 'the caller closed the connection'))

function asEnded(error: unknown): Ended {
  if (error instanceof Ended) return error
  if (error instanceof RunnerFailure) {
    const options = {
      cause: error,
      ...(error.retryable ? { retryAfter: error.retryAfter ?? 2 } : {}),
    }
    return new Ended('failed', new GraftError(error.code, error.message, options))
  }
  if (isGraftError(error)) return new Ended('failed', error)
  return new Ended('failed', new GraftError('ERR_INTERNAL', 'the call failed', { cause: error }))
}

/** @returns the runner's receipt, verified */
async function* attempts(
  deps: CallDeps,
  plan: CallPlan,
  state: CallState,
  signal: AbortSignal,
): AsyncGenerator<CallEvent, string> {
  const tried = new Set<string>()
  let last: RunnerFailure | null = null
  for (;;) {
    const runner = await pick(deps, plan, tried)
    if (!runner) throw last ?? noRunner(plan.request.base)
    tried.add(runner.status.id)
    try {
      return yield* attempt(deps, plan, state, runner, signal)
    } catch (error) {
      if (signal.aborted || !(error instanceof RunnerFailure) || !error.retryable) throw error
      const { requestId } = plan.request
      deps.metrics.add('graft_edge_runner_failures_total', { code: error.code })
      deps.log({
        event: 'runner_failed',
        requestId,
        runner: runner.status.id,
        message: error.message,
      })
      last = error
    }
  }
}

async function pick(deps: CallDeps, { request, operations }: CallPlan, tried: Set<string>) {
  const ranked = rankRunners({
    base: request.base,
    adapters: request.adapters.map(({ digest }) => digest),
    operations,
    runners: await deps.fleet.runners(),
    open: deps.open.count,
    now: deps.clock().getTime(),
  })
  return ranked.find(({ status }) => !tried.has(status.id))
}

const noRunner = (base: string) =>
  new GraftError('ERR_NO_RUNNER', `no live runner serves base ${base}; try again`, {
    retryAfter: 2,
  })

async function* attempt(
  deps: CallDeps,
  plan: CallPlan,
  state: CallState,
  runner: Runner,
  signal: AbortSignal,
): AsyncGenerator<CallEvent, string> {
  const resumed = completionOf(state)
  state.resumed = resumed
  const resume = state.sent.map((tokenIds) => ({ tokenIds: [...tokenIds] }))
  const request = resumed > 0 ? { ...plan.request, resume } : plan.request
  const counted = { ...NOTHING }
  using _open = deps.open.enter(runner.status.id)
  for await (const frame of deps.runners.generate(runner, request, signal)) {
    if (signal.aborted) throw aborted()
    if (frame.type === 'accepted') {
      counted.prompt = frame.promptTokens
      counted.cached = frame.cachedTokens
      state.prompt ??= { prompt: frame.promptTokens, cached: frame.cachedTokens }
      await coverTokens(plan, state, 0)
    } else if (frame.type === 'tokens') {
      counted.completion += frame.tokenIds.length
      // A choice that ended before the first runner failed is not told twice.
      if (state.finished[frame.choice] !== false) continue
      await coverTokens(plan, state, frame.tokenIds.length)
      state.sent[frame.choice]!.push(...frame.tokenIds)
      yield frame
    } else if (frame.type === 'finish') {
      if (state.finished[frame.choice] !== false) continue
      if (frame.reason === 'error' || frame.reason === 'cancelled')
        throw new RunnerFailure('ERR_RUNNER_FAILED', `a choice ended as ${frame.reason}`, true)
      state.finished[frame.choice] = true
      yield { type: 'finish', choice: frame.choice, reason: frame.reason }
    } else if (frame.type === 'error') {
      throw new RunnerFailure(frame.code, frame.message, frame.retryable)
    } else {
      if (state.finished.includes(false))
        throw new RunnerFailure('ERR_RUNNER_FAILED', 'a choice was left without an end', true)
      await trust(deps, runner, request, counted, frame.receipt)
      return frame.receipt
    }
  }
  throw new RunnerFailure('ERR_RUNNER_FAILED', 'the runner ended without a receipt', true)
}

/** Money first, tokens after: nothing is forwarded that the hold does not cover. */
async function coverTokens(plan: CallPlan, state: CallState, more: number): Promise<void> {
  const tokens = tokensOf(state)
  const cost = charge(plan.price, { ...tokens, completion: tokens.completion + more })
  try {
    await plan.hold.cover(cost, plan.price.output * EXTENSION_TOKENS)
  } catch (error) {
    if (isGraftError(error) && error.code === 'ERR_NO_BALANCE')
      throw new Ended('insufficient_quota', error)
    throw error
  }
}

async function trust(
  deps: CallDeps,
  runner: Runner,
  request: GenerateRequest,
  counted: TokenCounts,
  receipt: string,
): Promise<void> {
  try {
    await checkRunnerReceipt(runner, request, counted, receipt)
  } catch (error) {
    if (isGraftError(error)) await deps.fleet.eject(runner.status.id, error.message)
    throw error
  }
}

/** Signs the receipt and resolves the hold with it, in one step of the ledger. */
async function resolveCall(
  { receiptKey, currency, clock, log, metrics }: CallDeps,
  { model, request, price, hold }: CallPlan,
  outcome: Receipt['outcome'],
  tokens: TokenCounts,
  runner: string | null,
  resumed: number,
): Promise<{ receipt: string; tokens: TokenCounts }> {
  const { requestId, tenant } = request
  const charged = charge(price, tokens)
  const { version, input, output, cached } = price
  const facts: Receipt = {
    v: 1,
    requestId,
    tenant,
    model,
    runner,
    outcome,
    billed: tokens,
    ...(runner !== null && resumed > 0 ? { resumed } : {}),
    price: { version, input, output, cached },
    charged,
    currency,
    holdId: hold.holdId,
    issuedAt: clock().toISOString(),
  }
  const receipt = await signCompact(facts, 'graft-receipt+jws', receiptKey)
  if (outcome === 'failed') await hold.release('failed', receipt)
  else await hold.settle({ amount: charged, shares: sharesOf(price, charged), receipt })
  metrics.add('graft_edge_calls_total', { outcome })
  for (const [kind, count] of Object.entries(tokens))
    metrics.add('graft_edge_tokens_total', { kind }, count)
  metrics.add('graft_edge_charged_nanos_total', {}, charged)
  log({ event: 'call', requestId, tenant, outcome, ...tokens, charged })
  return { receipt, tokens }
}

import { GraftError } from '@graft/sdk/format/errors.ts'
import { requestHash } from '@graft/sdk/protocol/request-hash.ts'
import type { GenerateRequest } from '@graft/sdk/protocol/runner-api.ts'
import type { Caller } from '../auth/authenticate.ts'
import type { EdgeContext } from '../context.ts'
import type { Runner } from '../fleet/fleet.ts'
import { add, multiply } from '../ledger/amounts.ts'
import { type CallPrice, priceOf } from '../ledger/prices.ts'
import type { CallRequest } from '../openai/call-request.ts'
import { rankRunners } from '../routing/rank-runners.ts'
import { HELD_COMPLETION_TOKENS, promptBound } from './bounds.ts'
import { type CallHold, takeHold } from './call-hold.ts'
import { resolveModel } from './resolve-model.ts'
import type { CallPlan } from './run-call.ts'

/** Reference to digests, price, and a hold: everything before a runner is asked to generate. */
export async function planCall(
  edge: EdgeContext,
  caller: Caller,
  requestId: string,
  call: CallRequest,
): Promise<CallPlan> {
  const { base, adapters, operations } = await resolveModel(edge, caller, call.model)
  const price = priceOf(edge.prices, base.name, adapters)
  const pulls = adapters.map(({ package: _, ...pull }) => pull)
  const ranked = rankRunners({
    base: base.digest,
    adapters: pulls.map(({ digest }) => digest),
    operations,
    runners: await edge.fleet.runners(),
    open: edge.open.count,
    now: edge.clock().getTime(),
  })
  const [likeliest] = ranked
  if (!likeliest)
    throw new GraftError(
      'ERR_NO_RUNNER',
      `no runner of base "${base.name}" takes calls for ${call.model} now; try again`,
      { retryAfter: 2 },
    )
  const facts = {
    base: base.digest,
    adapters: pulls,
    prompt: call.prompt,
    sampling: call.sampling,
    // A runner cuts this to the room that the prompt leaves.
    maxTokens: call.maxTokens ?? likeliest.status.maxPositions,
    n: call.n,
  }
  const request: GenerateRequest = {
    ...facts,
    requestId,
    requestHash: await requestHash(facts),
    tenant: caller.tenant,
    deadline: edge.clock().getTime() + edge.limits.callMs,
  }
  const hold = await holdFor(edge, likeliest, request, price)
  return { model: call.model, request, operations, price, hold, stream: call.stream }
}

/** The price of an upper bound; a bound that the balance refuses is counted exactly before the caller is. */
async function holdFor(
  edge: EdgeContext,
  likeliest: Runner,
  request: GenerateRequest,
  price: CallPrice,
): Promise<CallHold> {
  const { requestId, tenant, prompt, maxTokens, n } = request
  const completion = Math.min(maxTokens, HELD_COMPLETION_TOKENS) * n
  const priceOfBound = (promptTokens: number) =>
    add(
      'hold',
      multiply('prompt hold', promptTokens, Math.max(price.input, price.cached)),
      multiply('completion hold', completion, price.output),
    )
  const take = (promptTokens: number, holdId: string) =>
    takeHold({
      book: edge.books.book(tenant),
      holdId,
      requestId,
      amount: priceOfBound(promptTokens),
      clock: edge.clock,
    })
  const bound = promptBound(prompt)
  try {
    return await take(bound, `hold_${requestId}`)
  } catch (error) {
    if (!(error instanceof GraftError) || error.code !== 'ERR_NO_BALANCE') throw error
    const tokens = await edge.runners.count(likeliest, prompt).catch(() => bound)
    if (tokens >= bound) throw error
    return take(tokens, `hold_${requestId}`)
  }
}

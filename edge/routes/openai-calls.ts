import { GraftError } from '@graft/sdk/format/errors.ts'
import { RECEIPT_FIELD, RECEIPT_HEADER } from '@graft/sdk/protocol/receipts.ts'
import { type Context, Hono } from 'hono'
import { authenticate } from '../auth/authenticate.ts'
import { planCall } from '../calls/plan-call.ts'
import { type CallEvent, type CallPlan, runCall } from '../calls/run-call.ts'
import { type EdgeContext, type EdgeEnv, keepAlive } from '../context.ts'
import type { CallRequest } from '../openai/call-request.ts'
import { parseChatBody, parseCompletionBody } from '../openai/parse-body.ts'
import { pulledBody } from '../openai/pulled-body.ts'
import { type AnswerHead, answerBody, type ChoiceState } from '../openai/shapes.ts'
import { sseLines } from '../openai/sse-lines.ts'
import { withIdempotency } from './idempotency.ts'
import { parseJson, readText } from './read-json.ts'

/** POST /v1/chat/completions and /v1/completions. */
export const openaiCallRoutes = (edge: EdgeContext) =>
  new Hono<EdgeEnv>()
    .post('/v1/chat/completions', (c) => answer(edge, c, parseChatBody))
    .post('/v1/completions', (c) => answer(edge, c, parseCompletionBody))

async function answer(
  edge: EdgeContext,
  c: Context<EdgeEnv>,
  parseBody: (body: unknown) => CallRequest,
): Promise<Response> {
  const caller = await authenticate(edge, c.req.header('authorization'), 'infer')
  c.header('x-ratelimit-limit-requests', String(edge.limits.requestsPerMinute))
  edge.rate.admit(caller.jti)
  c.header('x-ratelimit-remaining-requests', String(edge.rate.remaining(caller.jti)))
  if (edge.openByToken.count(caller.jti) >= edge.limits.concurrency)
    throw new GraftError(
      'ERR_RATE_LIMITED',
      `this token may have ${edge.limits.concurrency} calls open at once; wait for one to end`,
      { retryAfter: 1 },
    )
  const entered = edge.openByToken.enter(caller.jti)
  try {
    const text = await readText(c.req.raw, edge.limits.bodyBytes)
    const request = parseBody(parseJson(text))
    return await withIdempotency(edge, c, caller, text, entered, async () => {
      const plan = await planCall(edge, caller, c.get('requestId'), request)
      return request.stream
        ? await streamed(edge, c, request, plan)
        : await whole(edge, c, request, plan)
    })
  } catch (error) {
    entered[Symbol.dispose]()
    throw error
  }
}

const headOf = (edge: EdgeContext, request: CallRequest, plan: CallPlan): AnswerHead => ({
  id: `${request.kind === 'chat' ? 'chatcmpl' : 'cmpl'}-${plan.request.requestId}`,
  created: Math.floor(edge.clock().getTime() / 1000),
  model: request.model,
})

/** Which bytes answer: the base, and every adapter in the order asked. */
const digestHeaders = ({ request }: CallPlan): Record<string, string> => ({
  'x-graft-base': request.base,
  ...(request.adapters.length > 0
    ? { 'x-graft-adapters': request.adapters.map(({ digest }) => digest).join(', ') }
    : {}),
})

/** Starts the call and waits for its first event, so that what fails before a token has a status of its own. */
async function start(edge: EdgeContext, plan: CallPlan, abort: AbortController) {
  const began = edge.clock().getTime()
  const events = runCall(edge, plan, abort.signal)
  const first = await events.next()
  const seconds = (edge.clock().getTime() - began) / 1000
  edge.metrics.add('graft_edge_first_token_seconds_sum', {}, seconds)
  edge.metrics.add('graft_edge_first_token_seconds_count', {})
  async function* all(): AsyncGenerator<CallEvent, void> {
    if (first.done) return
    try {
      yield first.value
      yield* events
    } finally {
      await events.return()
    }
  }
  // A generator that never started runs no finally: whoever drops `events` unread must end the call itself.
  return { events: all(), end: () => events.return() }
}

async function whole(
  edge: EdgeContext,
  c: Context<EdgeEnv>,
  request: CallRequest,
  plan: CallPlan,
): Promise<Response> {
  const abort = abortWith(c.req.raw.signal)
  const choices: ChoiceState[] = Array.from({ length: request.n }, () => ({
    text: '',
    logprobs: [],
    finish: null,
  }))
  const { events } = await start(edge, plan, abort)
  for await (const event of events) {
    if (event.type === 'tokens') {
      const choice = choices[event.choice]!
      choice.text += event.text
      choice.logprobs.push(...(event.logprobs ?? []))
    } else if (event.type === 'finish') {
      choices[event.choice]!.finish = event.reason
    } else {
      const { receipt, tokens } = event
      const extra = { [RECEIPT_FIELD]: receipt }
      const body = answerBody(request, headOf(edge, request, plan), choices, tokens, extra)
      return c.json(body, 200, { ...digestHeaders(plan), [RECEIPT_HEADER]: receipt })
    }
  }
  throw new GraftError('ERR_INTERNAL', 'the call ended without an end')
}

async function streamed(
  edge: EdgeContext,
  c: Context<EdgeEnv>,
  request: CallRequest,
  plan: CallPlan,
): Promise<Response> {
  const abort = abortWith(c.req.raw.signal)
  const { events, end } = await start(edge, plan, abort)
  const { requestId } = plan.request
  const lines = sseLines(request, headOf(edge, request, plan), events, requestId)
  const body = pulledBody({
    lines,
    // The runner's connection closes first, then the call is settled.
    stop() {
      abort.abort()
      const settled = lines.return().then(() => end())
      keepAlive(c, settled)
      return settled
    },
    overdueMs: edge.limits.callMs,
    requestId,
  })
  return c.body(body, 200, {
    ...digestHeaders(plan),
    'content-type': 'text/event-stream; charset=utf-8',
    'cache-control': 'no-cache, no-transform',
    'x-accel-buffering': 'no',
  })
}

function abortWith(signal: AbortSignal): AbortController {
  const abort = new AbortController()
  if (signal.aborted) abort.abort()
  signal.addEventListener('abort', () => abort.abort(), { once: true })
  return abort
}

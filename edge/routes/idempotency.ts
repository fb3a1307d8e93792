import { sha256 } from '@graft/sdk/format/digest.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import type { Context } from 'hono'
import type { Caller } from '../auth/authenticate.ts'
import { type EdgeContext, type EdgeEnv, keepAlive } from '../context.ts'
import { DONE_LINE } from '../openai/sse-lines.ts'

/** How long an answer is kept for a repeat of its key. */
const ANSWER_KEPT_MS = 24 * 60 * 60_000
const MAX_KEY_CHARACTERS = 255
/** Longer answers are not kept: a repeat runs, and is paid, again. */
const MAX_KEPT_CHARACTERS = 1_000_000
const KEPT_HEADERS = /^(content-type|x-graft-.*)$/

/**
 * Runs `answer` once per (tenant, Idempotency-Key): a repeat with the same body gets the kept answer and costs nothing,
 * one in flight is 409, another body is 422. A call that fails gives its key up, so that a repeat runs again.
 * @param entered disposed when the response has been sent or given up
 */
export async function withIdempotency(
  edge: EdgeContext,
  c: Context<EdgeEnv>,
  caller: Caller,
  body: string,
  entered: Disposable,
  answer: () => Promise<Response>,
): Promise<Response> {
  const key = c.req.header('idempotency-key')
  if (key === undefined) {
    const response = await answer()
    if (isStream(response)) return watch(response, () => entered[Symbol.dispose]())
    entered[Symbol.dispose]()
    return response
  }
  if (key === '' || key.length > MAX_KEY_CHARACTERS)
    throw new GraftError(
      'ERR_REQUEST_INVALID',
      expected('Idempotency-Key', `1 to ${MAX_KEY_CHARACTERS} characters`, key),
    )
  const book = edge.books.book(caller.tenant)
  const now = edge.clock().getTime()
  const fingerprint = await sha256(`${c.req.path}\n${body}`)
  // A claim outlives its call, but not a crash for long.
  const claim = { key, fingerprint, now, expiresAt: now + edge.limits.callMs }
  const known = await book.claimKey(claim).catch((cause: unknown) => {
    throw new GraftError('ERR_LEDGER_UNAVAILABLE', 'the idempotency key cannot be checked', {
      cause,
      retryAfter: 2,
    })
  })
  if (known.state === 'mismatch')
    throw new GraftError(
      'ERR_IDEMPOTENCY_MISMATCH',
      `Idempotency-Key "${key}" was used for another body; use a new key for a new request`,
    )
  if (known.state === 'in_flight')
    throw new GraftError(
      'ERR_IDEMPOTENCY_IN_FLIGHT',
      `the call of Idempotency-Key "${key}" has not ended yet; try again shortly`,
      { retryAfter: 1 },
    )
  if (known.state === 'kept') {
    entered[Symbol.dispose]()
    const headers = { ...known.headers, 'idempotent-replayed': 'true' }
    return c.body(known.body, known.status as 200, headers)
  }
  const keep = (kept: { status: number; headers: Record<string, string>; body: string } | null) =>
    book.keepAnswer({ key, expiresAt: edge.clock().getTime() + ANSWER_KEPT_MS, answer: kept })
  try {
    const response = await answer()
    const headers = Object.fromEntries(
      [...response.headers].filter(([name]) => KEPT_HEADERS.test(name)),
    )
    if (!isStream(response)) {
      // Kept before it is sent: it is paid for, and a connection that breaks now is what the key is for.
      const text = await response.text()
      if (text.length <= MAX_KEPT_CHARACTERS)
        await keep({ status: response.status, headers, body: text })
      else await keep(null)
      entered[Symbol.dispose]()
      return new Response(text, response)
    }
    return watch(response, (text) => {
      entered[Symbol.dispose]()
      const kept = text?.endsWith(DONE_LINE)
        ? { status: response.status, headers, body: text }
        : null
      keepAlive(c, keep(kept))
    })
  } catch (error) {
    await keep(null).catch(() => {})
    throw error
  }
}

const isStream = (response: Response): boolean =>
  response.headers.get('content-type')?.startsWith('text/event-stream') ?? false

/** Passes a body through, chunk by chunk as it is asked for, and tells its text once it is sent; null = given up. */
function watch(response: Response, ended: (text: string | null) => void): Response {
  const reader = response.body!.getReader()
  const decoder = new TextDecoder()
  let text: string | null = ''
  const body = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const { done, value } = await reader.read()
        if (done) {
          ended(text)
          controller.close()
          return
        }
        if (text !== null) text += decoder.decode(value, { stream: true })
        if (text !== null && text.length > MAX_KEPT_CHARACTERS) text = null
        controller.enqueue(value)
      },
      async cancel(reason) {
        ended(null)
        await reader.cancel(reason)
      },
    },
    { highWaterMark: 0 },
  )
  return new Response(body, response)
}

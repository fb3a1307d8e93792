import { GraftError } from '../format/errors.ts'
import { RECEIPT_COMMENT, RECEIPT_FIELD } from '../protocol/receipts.ts'
import { readBody } from './body.ts'
import type { Usage } from './openai-types.ts'
import { errorFromBody, isRecord, parseJson } from './server-error.ts'
import { readSse } from './sse.ts'
import type { VerifiedReceipt } from './verify-receipt.ts'
import type { Watch } from './watch.ts'

/**
 * A streamed answer. Iterate it once; leaving the loop aborts the call, and what was forwarded is billed.
 * The stream is complete only when the loop ends by itself: everything else throws.
 */
export interface AnswerStream<Chunk> extends AsyncIterable<Chunk> {
  readonly requestId: string
  /** Digests of what answers: the base, then the adapters in the order asked. */
  readonly base: string | null
  readonly adapters: string[]
  /** Known once the stream has ended; null when the caller turned it off. */
  readonly usage: Usage | null
  /** Compact JWS of the receipt, verified; rejects when the stream breaks or the receipt proves wrong. */
  readonly receipt: Promise<string>
  /** The same, taken apart. */
  readonly proof: Promise<VerifiedReceipt>
  /** Reads what is left. @returns text of choice 0, all of it */
  text(): Promise<string>
  abort(): void
}

export interface StreamLimits {
  /** Milliseconds until the first event. */
  firstTokenMs: number
  /** Milliseconds between bytes after it. */
  idleMs: number
}

interface StreamSource {
  response: Response
  watch: Watch
  base: string | null
  adapters: string[]
  limits: StreamLimits
  /** The call's id, given the `id` of a chunk once one came. */
  requestIdOf(chunkId: unknown): string
  verify(requestId: string, compact: string): Promise<VerifiedReceipt>
  textOf(chunk: unknown): string
}

const DONE = '[DONE]'

export function createAnswerStream<Chunk>(source: StreamSource): AnswerStream<Chunk> {
  const { response, watch, limits } = source
  let requestId = source.requestIdOf(undefined)
  const what = `call ${requestId}`
  let usage: Usage | null = null
  let text = ''
  let complete = false
  let compact: string | null = null
  const proof = Promise.withResolvers<VerifiedReceipt>()
  const receipt = proof.promise.then(() => compact!)
  // A caller who never asks for the receipt must not be ended by an unhandled rejection.
  for (const promise of [proof.promise, receipt]) promise.catch(() => {})

  function finish(): void {
    complete = true
    if (compact === null) {
      const message = `${what} came without a receipt; this edge does not account for its calls`
      proof.reject(new GraftError('ERR_RECEIPT_INVALID', message))
    } else source.verify(requestId, compact).then(proof.resolve, proof.reject)
  }

  const truncated = (cause?: unknown): GraftError =>
    new GraftError(
      'ERR_STREAM_TRUNCATED',
      `${what} broke off before [DONE]; the text so far is incomplete, see GET /v1/receipts/${requestId} for what was billed`,
      { cause },
    )

  async function* chunks(): AsyncGenerator<Chunk> {
    let seen = false
    const body = readBody(response, watch, () => (seen ? limits.idleMs : limits.firstTokenMs), what)
    for await (const item of readSse(body)) {
      if (item.kind === 'comment') {
        if (item.text.startsWith(`${RECEIPT_COMMENT} `))
          compact = item.text.slice(RECEIPT_COMMENT.length + 1).trim()
        continue
      }
      seen = true
      if (item.data === DONE) return finish()
      const chunk = parseJson(item.data)
      if (!isRecord(chunk))
        throw new GraftError('ERR_JSON_INVALID', `${what}: an event is not a JSON object`)
      if ('error' in chunk) throw errorFromBody(chunk, 500, what)
      requestId = source.requestIdOf(chunk['id'])
      if (isRecord(chunk['usage'])) usage = chunk['usage'] as unknown as Usage
      if (typeof chunk[RECEIPT_FIELD] === 'string') compact ??= chunk[RECEIPT_FIELD]
      text += source.textOf(chunk)
      yield chunk as Chunk
    }
    throw truncated()
  }

  async function* guarded(): AsyncGenerator<Chunk> {
    let failure = new GraftError(
      'ERR_CANCELLED',
      `${what} was left before its end; see GET /v1/receipts/${requestId}`,
    )
    try {
      yield* chunks()
    } catch (e) {
      failure = watch.explain(e, what)
      if (failure.code === 'ERR_UNREACHABLE') failure = truncated(e)
      throw failure
    } finally {
      if (!complete) proof.reject(failure)
    }
  }

  const iterator = guarded()
  let taken = false
  return {
    get requestId() {
      return requestId
    },
    base: source.base,
    adapters: source.adapters,
    get usage() {
      return usage
    },
    receipt,
    proof: proof.promise,
    async text() {
      for await (const _ of iterator);
      return text
    },
    abort: () => watch.abort(new GraftError('ERR_CANCELLED', `${what} was aborted by the caller`)),
    [Symbol.asyncIterator]() {
      if (taken)
        throw new GraftError(
          'ERR_REQUEST_INVALID',
          `${what} is being read already; a stream is read once`,
        )
      taken = true
      return iterator
    },
  }
}

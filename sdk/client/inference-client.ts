import { expected, GraftError } from '../format/errors.ts'
import { RECEIPT_FIELD, RECEIPT_HEADER, type ReceiptKeys } from '../protocol/receipts.ts'
import { type AnswerStream, createAnswerStream } from './answer-stream.ts'
import { readBody } from './body.ts'
import { type ClientOptions, createHttp } from './http.ts'
import type {
  ChatCompletion,
  ChatCompletionChunk,
  ChatParams,
  Completion,
  CompletionChunk,
  CompletionParams,
  Model,
} from './openai-types.ts'
import { createReceiptVerifier } from './receipt-keys.ts'
import { isRecord, parseJson } from './server-error.ts'
import { type VerifiedReceipt, verifyReceipt } from './verify-receipt.ts'

/** Milliseconds. */
export interface InferenceTimeouts {
  /** Until the answer's headers, which the edge sends with the first token. @default 120000 */
  connect?: number
  /** From the headers to the first event. @default 120000 */
  firstToken?: number
  /** Between two reads of a stream or a body. @default 60000 */
  idle?: number
}

export interface InferenceOptions extends ClientOptions {
  timeouts?: InferenceTimeouts
  /** Keys to trust instead of those that the edge publishes. */
  keys?: ReceiptKeys
}

export interface CallOptions {
  signal?: AbortSignal
  /** Kept over retries, so that a call is run and paid once. @default a new UUID per call */
  idempotencyKey?: string
}

/** A whole answer and the proof of what ran and what it cost. */
export interface Answer<Body> {
  requestId: string
  base: string | null
  adapters: string[]
  body: Body
  /** Text of choice 0. */
  text: string
  /** Compact JWS. */
  receipt: string
  proof: VerifiedReceipt
}

type Shape = 'text' | 'delta' | 'message'

function textOf(body: unknown, shape: Shape): string {
  const choices = isRecord(body) && Array.isArray(body['choices']) ? body['choices'] : []
  const choice: unknown = choices.find((c) => isRecord(c) && c['index'] === 0)
  if (!isRecord(choice)) return ''
  const inner = choice[shape]
  const text = shape === 'text' ? inner : isRecord(inner) ? inner['content'] : ''
  return typeof text === 'string' ? text : ''
}

export type InferenceClient = ReturnType<typeof createInferenceClient>

/** The edge's OpenAI-compatible API, with receipts proven and streams that cannot end silently short. */
export function createInferenceClient(options: InferenceOptions) {
  const http = createHttp(options, 'edge URL')
  const verified = createReceiptVerifier(http, options.keys)
  const { connect = 120_000, firstToken = 120_000, idle = 60_000 } = options.timeouts ?? {}

  async function proveFor(requestId: string, compact: string): Promise<VerifiedReceipt> {
    const proof = await verified(compact, verifyReceipt)
    if (proof.receipt.requestId === requestId) return proof
    throw new GraftError(
      'ERR_RECEIPT_INVALID',
      expected('receipt: requestId', requestId, proof.receipt.requestId),
    )
  }

  const open = (path: string, params: object, call: CallOptions) =>
    http.send({
      method: 'POST',
      path,
      json: params,
      headers: { 'idempotency-key': call.idempotencyKey ?? crypto.randomUUID() },
      // The key makes it so: a repeat replays the kept answer.
      idempotent: true,
      timeoutMs: connect,
      signal: call.signal,
      what: 'call',
    })

  /** A replayed answer has the receipt of the call that made it, so that call's id is the one to hold it against. */
  const callId = (response: Response, bodyId: unknown): string =>
    response.headers.get('idempotent-replayed') === 'true' && typeof bodyId === 'string'
      ? bodyId.replace(/^(?:chat)?cmpl-/, '')
      : (response.headers.get('x-request-id') ?? '')

  async function whole<Body>(
    path: string,
    params: object,
    call: CallOptions,
    shape: Shape,
  ): Promise<Answer<Body>> {
    const { response, watch } = await open(path, params, call)
    const decoder = new TextDecoder()
    let text = ''
    for await (const chunk of readBody(response, watch, () => idle, 'call'))
      text += decoder.decode(chunk, { stream: true })
    const body = parseJson(text)
    if (!isRecord(body))
      throw new GraftError('ERR_JSON_INVALID', expected('answer to call', 'a JSON object', text))
    const requestId = callId(response, body['id'])
    const receipt = body[RECEIPT_FIELD] ?? response.headers.get(RECEIPT_HEADER)
    if (typeof receipt !== 'string')
      throw new GraftError('ERR_RECEIPT_INVALID', `call ${requestId} came without a receipt`)
    return {
      requestId,
      ...namesOf(response),
      body: body as Body,
      text: textOf(body, shape),
      receipt,
      proof: await proveFor(requestId, receipt),
    }
  }

  async function streamed<Chunk>(
    path: string,
    params: CompletionParams | ChatParams,
    call: CallOptions,
    shape: Shape,
  ): Promise<AnswerStream<Chunk>> {
    const body = { ...params, stream_options: { include_usage: true, ...params.stream_options } }
    const { response, watch } = await open(path, body, call)
    return createAnswerStream<Chunk>({
      response,
      watch,
      ...namesOf(response),
      requestIdOf: (id) => callId(response, id),
      limits: { firstTokenMs: firstToken, idleMs: idle },
      verify: proveFor,
      textOf: (chunk) => textOf(chunk, shape),
    })
  }

  function createCompletion(
    params: CompletionParams & { stream: true },
    call?: CallOptions,
  ): Promise<AnswerStream<CompletionChunk>>
  function createCompletion(
    params: CompletionParams & { stream?: false },
    call?: CallOptions,
  ): Promise<Answer<Completion>>
  function createCompletion(params: CompletionParams, call: CallOptions = {}) {
    return params.stream
      ? streamed<CompletionChunk>('/v1/completions', params, call, 'text')
      : whole<Completion>('/v1/completions', params, call, 'text')
  }

  function createChat(
    params: ChatParams & { stream: true },
    call?: CallOptions,
  ): Promise<AnswerStream<ChatCompletionChunk>>
  function createChat(
    params: ChatParams & { stream?: false },
    call?: CallOptions,
  ): Promise<Answer<ChatCompletion>>
  function createChat(params: ChatParams, call: CallOptions = {}) {
    return params.stream
      ? streamed<ChatCompletionChunk>('/v1/chat/completions', params, call, 'delta')
      : whole<ChatCompletion>('/v1/chat/completions', params, call, 'message')
  }

  return {
    url: http.url,
    completions: { create: createCompletion },
    chat: { create: createChat },
    models: {
      list: () =>
        http.json<{ object: 'list'; data: Model[] }>({
          method: 'GET',
          path: '/v1/models',
          what: 'models',
        }),
    },
    /** Verifies a receipt with this edge's keys, reading them again when a new runner signed. */
    verify: (compact: string) => verified(compact, verifyReceipt),
  }
}

const namesOf = (response: Response) => ({
  base: response.headers.get('x-graft-base'),
  adapters: response.headers.get('x-graft-adapters')?.split(', ') ?? [],
})

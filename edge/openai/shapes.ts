import type { FinishReason } from '@graft/sdk/protocol/receipts.ts'
import type { Frame } from '@graft/sdk/protocol/runner-api.ts'
import type { TokenCounts } from '../ledger/prices.ts'
import type { CallRequest } from './call-request.ts'

type TokenLogprobs = NonNullable<Extract<Frame, { type: 'tokens' }>['logprobs']>

/** What is the same on every object of one answer. */
export interface AnswerHead {
  id: string
  /** Unix seconds. */
  created: number
  model: string
}

/** OpenAI's usage object. */
export const usageOf = (tokens: TokenCounts) => ({
  prompt_tokens: tokens.prompt,
  completion_tokens: tokens.completion,
  total_tokens: tokens.prompt + tokens.completion,
  prompt_tokens_details: { cached_tokens: tokens.cached },
})

/** OpenAI knows `stop` and `length`; what else ends a choice travels as an error. */
export const finishReason = (reason: FinishReason): 'stop' | 'length' =>
  reason === 'stop' ? 'stop' : 'length'

const bytesOf = (text: string): number[] => [...new TextEncoder().encode(text)]

const chatLogprobs = (logprobs: TokenLogprobs) => ({
  content: logprobs.map(({ text, logprob, top }) => ({
    token: text,
    logprob,
    bytes: bytesOf(text),
    top_logprobs: top.map((entry) => ({
      token: entry.text,
      logprob: entry.logprob,
      bytes: bytesOf(entry.text),
    })),
  })),
  refusal: null,
})

/** @param offset characters of the answer before these tokens */
function completionLogprobs(logprobs: TokenLogprobs, offset: number) {
  let at = offset
  const offsets = logprobs.map(({ text }) => {
    const start = at
    at += text.length
    return start
  })
  return {
    tokens: logprobs.map(({ text }) => text),
    token_logprobs: logprobs.map(({ logprob }) => logprob),
    top_logprobs: logprobs.map(({ top }) =>
      Object.fromEntries(top.map((entry) => [entry.text, entry.logprob])),
    ),
    text_offset: offsets,
  }
}

/** One choice as it stands: text so far, its logprobs, and why it ended. */
export interface ChoiceState {
  text: string
  logprobs: TokenLogprobs
  finish: FinishReason | null
}

/** Builds the objects of a streamed answer. `usage: null` is on every chunk when the client asked for usage. */
export function chunkShapes(request: CallRequest, head: AnswerHead) {
  const chat = request.kind === 'chat'
  const object = chat ? 'chat.completion.chunk' : 'text_completion'
  const chunk = (choices: unknown[]) => ({
    ...{ id: head.id, object, created: head.created, model: head.model, choices },
    ...(request.includeUsage ? { usage: null } : {}),
  })
  return {
    /** The role comes first on a chat; a completion has no such chunk. */
    role: (index: number) =>
      chat
        ? chunk([
            {
              index,
              delta: { role: 'assistant', content: '' },
              logprobs: null,
              finish_reason: null,
            },
          ])
        : null,
    text: (index: number, text: string, logprobs: TokenLogprobs | undefined, offset: number) =>
      chunk([
        chat
          ? {
              index,
              delta: { content: text },
              logprobs: logprobs ? chatLogprobs(logprobs) : null,
              finish_reason: null,
            }
          : {
              index,
              text,
              logprobs: logprobs ? completionLogprobs(logprobs, offset) : null,
              finish_reason: null,
            },
      ]),
    finish: (index: number, reason: FinishReason) =>
      chunk([
        {
          index,
          ...(chat ? { delta: {} } : { text: '' }),
          logprobs: null,
          finish_reason: finishReason(reason),
        },
      ]),
    usage: (tokens: TokenCounts, extra: Record<string, unknown>) => ({
      ...chunk([]),
      usage: usageOf(tokens),
      ...extra,
    }),
  }
}

/** The object of an answer that is not streamed. */
export function answerBody(
  request: CallRequest,
  head: AnswerHead,
  choices: ChoiceState[],
  tokens: TokenCounts,
  extra: Record<string, unknown>,
) {
  const asked = request.sampling.logprobs !== null
  const chat = request.kind === 'chat'
  return {
    id: head.id,
    object: chat ? 'chat.completion' : 'text_completion',
    created: head.created,
    model: head.model,
    choices: choices.map(({ text, logprobs, finish }, index) => ({
      index,
      ...(chat ? { message: { role: 'assistant', content: text, refusal: null } } : { text }),
      logprobs: asked ? (chat ? chatLogprobs(logprobs) : completionLogprobs(logprobs, 0)) : null,
      finish_reason: finishReason(finish ?? 'length'),
    })),
    usage: usageOf(tokens),
    ...extra,
  }
}

import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import type { ChatMessage, PromptInput, Sampling } from '@graft/sdk/protocol/runner-api.ts'
import type * as z from 'zod'
import { type ChatBody, type CompletionBody, chatBody, completionBody } from './body-schemas.ts'
import type { CallRequest } from './call-request.ts'

/** OpenAI's default for /v1/completions. */
const DEFAULT_COMPLETION_TOKENS = 16

/** @throws ERR_REQUEST_INVALID naming the field */
export function parseChatBody(body: unknown): CallRequest {
  const chat = parse(chatBody, body)
  if (chat.top_logprobs != null && !chat.logprobs)
    throw new GraftError(
      'ERR_REQUEST_INVALID',
      expected('logprobs', 'true when top_logprobs is given', chat.logprobs),
    )
  const tools = chat.tool_choice === 'none' ? null : chat.tools
  const prompt: PromptInput = {
    kind: 'chat',
    messages: chat.messages.map(message),
    ...(tools ? { tools } : {}),
  }
  const logprobs = chat.logprobs ? (chat.top_logprobs ?? 0) : null
  return {
    ...common(chat),
    kind: 'chat',
    prompt,
    sampling: { ...sampling(chat, logprobs), ...formatOf(chat) },
    maxTokens: chat.max_completion_tokens ?? chat.max_tokens ?? null,
  }
}

/** @throws ERR_REQUEST_INVALID naming the field */
export function parseCompletionBody(body: unknown): CallRequest {
  const completion = parse(completionBody, body)
  return {
    ...common(completion),
    kind: 'completion',
    prompt: promptOf(completion.prompt),
    sampling: sampling(completion, completion.logprobs ?? null),
    maxTokens: completion.max_tokens ?? DEFAULT_COMPLETION_TOKENS,
  }
}

/** Shared with the other routes of this room: one way to refuse a body. */
export function parse<T>(schema: z.ZodType<T>, body: unknown): T {
  const parsed = schema.safeParse(body, { reportInput: true })
  if (parsed.success) return parsed.data
  const issue = deepest(parsed.error.issues)
  const where = issue.path.map(String).join('.') || 'the body'
  if (issue.code === 'unrecognized_keys') {
    const names = issue.keys.map((key) => [...issue.path, key].join('.')).join(', ')
    throw new GraftError(
      'ERR_REQUEST_INVALID',
      `the field ${names} is not supported here; leave it out`,
    )
  }
  const shown = issue.input === undefined ? 'nothing' : JSON.stringify(issue.input)
  throw new GraftError(
    'ERR_REQUEST_INVALID',
    `${where} is not valid: ${issue.message} (got ${shown.slice(0, 120)})`,
  )
}

type Issue = z.core.$ZodIssue

/** An unknown field is named first; of a union's branches the one that got furthest. */
function deepest(issues: Issue[]): Issue {
  return issues.find((issue) => issue.code === 'unrecognized_keys') ?? issues[0]!
}

const common = (body: ChatBody | CompletionBody) => ({
  model: body.model,
  n: body.n ?? 1,
  stream: body.stream ?? false,
  includeUsage: body.stream_options?.include_usage ?? false,
})

/** A chat template knows four roles; OpenAI renamed `system` to `developer`. */
function message({ role, content }: ChatBody['messages'][number]): ChatMessage {
  return {
    role: role === 'developer' ? 'system' : role,
    content: typeof content === 'string' ? content : content.map(({ text }) => text).join(''),
  }
}

function promptOf(prompt: CompletionBody['prompt']): PromptInput {
  if (typeof prompt === 'string') return { kind: 'text', text: prompt }
  const [first] = prompt
  if (typeof first === 'string') return { kind: 'text', text: first }
  return { kind: 'tokens', tokenIds: prompt as number[] }
}

/** `strict` changes nothing: a schema is kept or refused, never kept in part. */
function formatOf({ response_format: format }: ChatBody): Pick<Sampling, 'responseFormat'> {
  if (!format || format.type === 'text') return {}
  if (format.type === 'json_object') return { responseFormat: { type: 'json_object' } }
  return { responseFormat: { type: 'json_schema', schema: format.json_schema.schema } }
}

function sampling(body: ChatBody | CompletionBody, logprobs: number | null): Sampling {
  return {
    temperature: body.temperature ?? 1,
    topP: body.top_p ?? 1,
    topK: Math.max(0, body.top_k ?? 0),
    minP: body.min_p ?? 0,
    presencePenalty: body.presence_penalty ?? 0,
    frequencyPenalty: body.frequency_penalty ?? 0,
    repetitionPenalty: body.repetition_penalty ?? 1,
    logitBias: body.logit_bias ?? {},
    // Without a seed each call has its own; a retry or a continuation of the call keeps it.
    seed: body.seed ?? crypto.getRandomValues(new Uint32Array(1))[0]!,
    stop: typeof body.stop === 'string' ? [body.stop] : (body.stop ?? []),
    logprobs,
  }
}

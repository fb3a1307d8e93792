/** The parts of OpenAI's wire objects that Graft answers. Fields it does not know are passed on as they are. */
export interface Usage {
  prompt_tokens: number
  completion_tokens: number
  total_tokens: number
  prompt_tokens_details?: { cached_tokens: number }
}

export interface SamplingParams {
  /** `graft-tiny`, `@acme/sql@^1.2`, `0.7(@a/x@^1)+0.3(@b/y@2)`. */
  model: string
  max_tokens?: number
  temperature?: number
  top_p?: number
  top_k?: number
  min_p?: number
  n?: number
  stop?: string | string[]
  seed?: number
  presence_penalty?: number
  frequency_penalty?: number
  repetition_penalty?: number
  logit_bias?: Record<string, number>
  stream?: boolean
  stream_options?: { include_usage?: boolean }
  user?: string
}

export interface CompletionParams extends SamplingParams {
  prompt: string | string[] | number[]
  logprobs?: number
}

export interface ChatMessageParam {
  role: 'system' | 'developer' | 'user' | 'assistant' | 'tool'
  content: string | { type: 'text'; text: string }[]
}

export interface ChatParams extends SamplingParams {
  messages: ChatMessageParam[]
  max_completion_tokens?: number
  logprobs?: boolean
  top_logprobs?: number
  tools?: unknown[]
  response_format?:
    | { type: 'text' | 'json_object' }
    | {
        type: 'json_schema'
        json_schema: {
          name: string
          description?: string
          schema: Record<string, unknown>
          strict?: boolean
        }
      }
}

type Finish = 'stop' | 'length'

interface Answer<Choice> {
  id: string
  object: string
  created: number
  model: string
  choices: Choice[]
  usage?: Usage | null
}

export type Completion = Answer<{
  index: number
  text: string
  logprobs: unknown
  finish_reason: Finish
}>
export type CompletionChunk = Answer<{
  index: number
  text: string
  logprobs: unknown
  finish_reason: Finish | null
}>
export type ChatCompletion = Answer<{
  index: number
  message: { role: 'assistant'; content: string }
  logprobs: unknown
  finish_reason: Finish
}>
export type ChatCompletionChunk = Answer<{
  index: number
  delta: { role?: 'assistant'; content?: string }
  logprobs: unknown
  finish_reason: Finish | null
}>

export interface Model {
  id: string
  object: 'model'
  created: number
  owned_by: string
  root: string
  parent: string | null
}

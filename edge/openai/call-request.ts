import type { PromptInput, Sampling } from '@graft/sdk/protocol/runner-api.ts'

/** What a body of /v1/completions or /v1/chat/completions asks for, with every default applied. */
export interface CallRequest {
  kind: 'chat' | 'completion'
  model: string
  prompt: PromptInput
  sampling: Sampling
  /** null = as many as the context has room for. */
  maxTokens: number | null
  n: number
  stream: boolean
  includeUsage: boolean
}

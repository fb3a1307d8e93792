import type { PromptInput } from '@graft/sdk/protocol/runner-api.ts'

/** A template wraps each message in role markers and line ends, and may bring a standing system text. */
const TEMPLATE_TOKENS = 256
const TEMPLATE_TOKENS_PER_MESSAGE = 16
/** Completion tokens that the first hold covers; longer answers extend it. */
export const HELD_COMPLETION_TOKENS = 1024
/** Completion tokens that each extension adds. */
export const EXTENSION_TOKENS = 512

const bytes = (text: string): number => new TextEncoder().encode(text).length

/** No tokenizer makes more tokens of a text than it has UTF-8 bytes, so this never counts too few. */
export function promptBound(prompt: PromptInput): number {
  if (prompt.kind === 'tokens') return prompt.tokenIds.length + 1
  if (prompt.kind === 'text') return bytes(prompt.text) + 1
  const text = prompt.messages.reduce((sum, { content }) => sum + bytes(content), 0)
  const tools = prompt.tools ? bytes(JSON.stringify(prompt.tools)) : 0
  return text + tools + TEMPLATE_TOKENS + TEMPLATE_TOKENS_PER_MESSAGE * prompt.messages.length
}

import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import type { ChatMessage } from '@graft/sdk/protocol/runner-api.ts'
import { Template } from '@huggingface/jinja'

export type RenderChat = (messages: ChatMessage[], tools?: unknown[]) => string

/** `chat_template` of tokenizer_config.json: one template, or several by name. */
export function pickChatTemplate(value: unknown): string | null {
  if (value === undefined || value === null) return null
  if (typeof value === 'string') return value
  if (Array.isArray(value)) {
    const named = value.find((entry) => entry?.name === 'default') ?? value[0]
    if (typeof named?.template === 'string') return named.template
  }
  throw new GraftError(
    'ERR_CHECKPOINT_INVALID',
    expected('tokenizer_config.json: chat_template', 'a template or a list of named ones', value),
  )
}

/**
 * Renders messages up to where the assistant speaks. `tokens` are the special tokens that templates name.
 * @throws ERR_REQUEST_INVALID when the template refuses the messages
 */
export function createChatTemplate(source: string, tokens: Record<string, string>): RenderChat {
  let template: Template
  try {
    template = new Template(source)
  } catch (cause) {
    throw new GraftError('ERR_CHECKPOINT_INVALID', 'the chat template is not valid Jinja', {
      cause,
    })
  }
  return (messages, tools) => {
    try {
      const given = tools ? { tools } : {}
      return template.render({ ...tokens, messages, ...given, add_generation_prompt: true })
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause)
      throw new GraftError(
        'ERR_REQUEST_INVALID',
        `messages are refused by the chat template of the base: ${why.slice(0, 200)}`,
        { cause },
      )
    }
  }
}

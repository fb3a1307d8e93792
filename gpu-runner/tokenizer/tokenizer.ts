import { GraftError } from '@graft/sdk/format/errors.ts'
import type { PromptInput } from '@graft/sdk/protocol/runner-api.ts'
import { Tokenizer } from '@huggingface/tokenizers'
import { createChatTemplate, pickChatTemplate } from './chat-template.ts'
import { tokenBytes } from './token-bytes.ts'
import { createTokenStream, type TokenStream } from './token-stream.ts'

export interface TextCodec {
  /** Ids of a prompt: text gets the base's special tokens, a chat those of its template, ids pass as they are. */
  encodePrompt(prompt: PromptInput): number[]
  decode(tokenIds: number[]): string
  /** The text of one token by itself, for logprobs. */
  tokenText(tokenId: number): string
  /** Decodes an answer to this prompt token by token. */
  stream(promptIds: readonly number[]): TokenStream
  /** A token of these ends the answer. */
  eosTokenIds: ReadonlySet<number>
  /** [vocab] bytes that each token adds to an answer, null for none; null when this tokenizer has no such table. */
  tokenBytes(): (Uint8Array | null)[] | null
}

type JsonObject = Record<string, unknown>

export interface TokenizerFiles {
  /** tokenizer.json */
  tokenizer: JsonObject
  /** tokenizer_config.json */
  config: JsonObject
  /** generation_config.json, then config.json: the first that names eos_token_id wins. */
  generation: JsonObject[]
  /** chat_template.jinja; wins over tokenizer_config.json. */
  chatTemplate: string | null
  vocab: number
}

const tokenContent = (value: unknown): string | null =>
  typeof value === 'string'
    ? value
    : typeof (value as JsonObject | null)?.['content'] === 'string'
      ? ((value as JsonObject)['content'] as string)
      : null

function specialTokens(config: JsonObject): Record<string, string> {
  const found: Record<string, string> = {}
  for (const [key, value] of Object.entries(config)) {
    const content = key.endsWith('_token') ? tokenContent(value) : null
    if (content !== null) found[key] = content
  }
  return found
}

function eosIds(files: TokenizerFiles, toId: (token: string) => number | undefined): Set<number> {
  for (const source of files.generation) {
    const value = source['eos_token_id']
    const ids = (Array.isArray(value) ? value : [value]).filter((id) => typeof id === 'number')
    if (ids.length > 0) return new Set(ids)
  }
  const token = tokenContent(files.config['eos_token'])
  const id = token === null ? undefined : toId(token)
  return new Set(id === undefined ? [] : [id])
}

/** @throws ERR_CHECKPOINT_INVALID when the files cannot be read as a tokenizer */
export function createTokenizer(files: TokenizerFiles): TextCodec {
  let inner: Tokenizer
  try {
    inner = new Tokenizer(files.tokenizer, files.config)
  } catch (cause) {
    throw new GraftError('ERR_CHECKPOINT_INVALID', 'tokenizer.json cannot be read as a tokenizer', {
      cause,
    })
  }
  const template = files.chatTemplate ?? pickChatTemplate(files.config['chat_template'])
  const renderChat = template && createChatTemplate(template, specialTokens(files.config))
  const decode = (tokenIds: number[]): string =>
    tokenIds.length === 0
      ? ''
      : inner.decode(tokenIds, { skip_special_tokens: true, clean_up_tokenization_spaces: false })
  const encode = (prompt: PromptInput): number[] => {
    if (prompt.kind === 'tokens') return prompt.tokenIds
    if (prompt.kind === 'text') return inner.encode(prompt.text).ids
    if (!renderChat)
      throw new GraftError(
        'ERR_REQUEST_INVALID',
        'messages need a base with a chat template, and this base has none; send a text prompt to /v1/completions',
      )
    return inner.encode(renderChat(prompt.messages, prompt.tools), { add_special_tokens: false })
      .ids
  }
  return {
    encodePrompt(prompt) {
      const ids = encode(prompt)
      const foreign = ids.find((id) => id >= files.vocab)
      if (foreign !== undefined)
        throw new GraftError(
          'ERR_REQUEST_INVALID',
          `prompt: token ${foreign} must be below the vocabulary of ${files.vocab}`,
        )
      if (ids.length === 0)
        throw new GraftError('ERR_REQUEST_INVALID', 'prompt must give at least one token, got none')
      return ids
    },
    decode,
    tokenText: (tokenId) =>
      inner.decode([tokenId], { skip_special_tokens: false, clean_up_tokenization_spaces: false }),
    stream: (promptIds) => createTokenStream(decode, promptIds),
    eosTokenIds: eosIds(files, (token) => inner.token_to_id(token)),
    tokenBytes: () => tokenBytes(files.tokenizer, files.vocab),
  }
}

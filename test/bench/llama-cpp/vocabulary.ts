import { createTokenizer, type TextCodec } from '@graft/runner/tokenizer/tokenizer.ts'

/** A Llama vocabulary with made-up words, known to both sides, so that both turn ids into the same text. */
export const SPECIAL = { unknown: 0, begin: 1, end: 2 } as const
/** Byte tokens follow the special ones; then come words. */
export const BYTE_TOKENS = 3

/** SentencePiece's sign for a space before a word. */
const SPACE = '\u2581'

export const pieces = (vocab: number): string[] =>
  Array.from({ length: vocab }, (_, id) => {
    if (id < BYTE_TOKENS) return ['<unk>', '<s>', '</s>'][id]!
    const byte = id - BYTE_TOKENS
    if (byte < 256) return `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`
    return `${SPACE}word${id}`
  })

/** Ids that are words: what prompts are made of. */
export const FIRST_WORD = BYTE_TOKENS + 256

/** Graft's own tokenizer over the vocabulary, with the decoder of Llama's tokenizer.json. No token ends an answer. */
export const wordCodec = (vocab: number): TextCodec =>
  createTokenizer({
    tokenizer: {
      version: '1.0',
      added_tokens: [],
      normalizer: null,
      pre_tokenizer: null,
      post_processor: null,
      decoder: {
        type: 'Sequence',
        decoders: [
          { type: 'Replace', pattern: { String: SPACE }, content: ' ' },
          { type: 'ByteFallback' },
          { type: 'Fuse' },
          { type: 'Strip', content: ' ', start: 1, stop: 0 },
        ],
      },
      model: {
        type: 'BPE',
        unk_token: '<unk>',
        byte_fallback: true,
        fuse_unk: true,
        vocab: Object.fromEntries(pieces(vocab).map((piece, id) => [piece, id])),
        merges: [],
      },
    },
    config: {},
    generation: [],
    chatTemplate: null,
    vocab,
  })

/** Turns ids into text; special tokens are left out. */
export type Decode = (tokenIds: number[]) => string

export interface TokenStream {
  /** Text that the token completes; "" while a character waits for its rest. */
  push(tokenId: number): string
  /** What is left, with a replacement character where a character never completed. */
  flush(): string
}

/** Enough context for any decoder that looks at neighbours. */
const CONTEXT_TOKENS = 8
/** A character has at most four bytes, a token at least one: who waits longer is not waiting for a character. */
const MAX_PENDING_TOKENS = 8
const REPLACEMENT = '\ufffd'

/** The shortest tail of the prompt that starts on a whole character. */
function context(decode: Decode, prompt: readonly number[]): number[] {
  for (let size = CONTEXT_TOKENS; size < prompt.length; size *= 4) {
    const tail = prompt.slice(-size)
    if (!decode(tail).includes(REPLACEMENT)) return tail
  }
  return [...prompt]
}

/**
 * Decodes one token at a time. Text is what a window of ids gains by the new id, so that any decoder of
 * tokenizer.json works: byte-level, byte fallback, metaspace. The window starts in the prompt: an answer that begins
 * with a space keeps it.
 */
export function createTokenStream(decode: Decode, prompt: readonly number[]): TokenStream {
  let window = context(decode, prompt)
  let read = window.length
  let readText = decode(window)
  const emit = (text: string): string => {
    const gained = text.slice(readText.length)
    window = window.slice(Math.max(0, Math.min(read, window.length - 1)))
    read = window.length
    readText = decode(window)
    return gained
  }
  return {
    push(tokenId) {
      window.push(tokenId)
      const text = decode(window)
      const waits = text.endsWith(REPLACEMENT) && window.length - read <= MAX_PENDING_TOKENS
      if (waits || text.length <= readText.length) return ''
      return emit(text)
    },
    flush() {
      const text = decode(window)
      return text.length > readText.length ? emit(text) : ''
    },
  }
}

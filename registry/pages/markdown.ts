import { Lexer, type Token, Tokenizer, type Tokens, type TokensList } from 'marked'

/*
 * Authors are strangers: whatever they write must be read in time linear in its length and without deep recursion. The
 * library is neither, for emphasis in long paragraphs and for nested blocks, so both are bounded here.
 */

/** Blocks inside blocks; no README for people goes deeper. */
const MAX_DEPTH = 12
/** Characters of a paragraph whose emphasis is still looked for: finding its ends is quadratic. */
const MAX_EMPHASIS_CHARS = 4000
/** Longer runs of `*` or `_` mean nothing and cost most. */
const LONG_RUN = /^(?:\*{4,}|_{4,})/

/** Where something else than text may begin. marked's own pattern also looks for a mailbox, at every letter anew. */
const TEXT_ENDS = /[\\<![`*~_]|(?<! ) {2,}\n|https?:\/\/|ftp:\/\/|www\./gi

class BoundedTokenizer extends Tokenizer {
  #depth = 0

  #nested<T>(read: () => T): T | undefined {
    if (this.#depth >= MAX_DEPTH) return undefined
    this.#depth++
    try {
      return read()
    } finally {
      this.#depth--
    }
  }

  override blockquote(src: string) {
    return this.#nested(() => super.blockquote(src))
  }

  override list(src: string) {
    return this.#nested(() => super.list(src))
  }

  override emStrong(src: string, masked: string, previous?: string) {
    if (masked.length > MAX_EMPHASIS_CHARS || LONG_RUN.test(src)) return undefined
    return super.emStrong(src, masked, previous)
  }

  override del(src: string, masked: string, previous?: string) {
    return masked.length > MAX_EMPHASIS_CHARS ? undefined : super.del(src, masked, previous)
  }

  override inlineText(src: string): Tokens.Text {
    TEXT_ENDS.lastIndex = 1
    const raw = src.slice(0, TEXT_ENDS.exec(src)?.index ?? src.length)
    return { type: 'text', raw, text: raw, escaped: false }
  }
}

/** YAML between `---` lines, as model hubs put it first: for programs, not for readers. */
const FRONT_MATTER = /^\uFEFF?---[ \t]*\r?\n(?:(?!---[ \t]*\r?$)[^\n]*\n)*---[ \t]*(?:\r?\n|$)/m

const withoutFrontMatter = (text: string): string => {
  const match = FRONT_MATTER.exec(text)
  return match?.index === 0 ? text.slice(match[0].length) : text
}

/** GitHub-flavoured Markdown, without its front matter, as marked's tokens. */
export const parseMarkdown = (text: string): Token[] | TokensList =>
  new Lexer({ gfm: true, tokenizer: new BoundedTokenizer() }).lex(withoutFrontMatter(text))

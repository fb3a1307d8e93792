/** The tokens of a base as the grammar thread reads them. */
export interface Vocabulary {
  /** [tokens] the bytes that each token writes; null for one that writes nothing, such as a special token. */
  bytes: (Uint8Array | null)[]
  /** Tokens that end an answer. */
  stop: number[]
}

/** EBNF, and its digest to know it again. */
export interface GrammarText {
  digest: string
  ebnf: string
}

export type Call =
  | { kind: 'compile'; id: number; grammar: GrammarText }
  /** Starts a session that has written these tokens. */
  | { kind: 'open'; id: number; session: number; grammar: GrammarText; tokens: number[] }
  | { kind: 'accept'; id: number; session: number; token: number }
  | { kind: 'close'; id: number; session: number }

/** Bit `id % 32` of word `id / 32` is 1 when the token may come next. */
export type TokenMask = Int32Array

export type Reply =
  | { kind: 'ready' }
  /** The mask after the tokens so far; null of calls that have none. */
  | { kind: 'done'; id: number; mask: TokenMask | null }
  /** The token, or one of those of `open`, is not in the grammar here. */
  | { kind: 'refused'; id: number; token: number }
  | { kind: 'error'; id: number; message: string }

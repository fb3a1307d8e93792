import { createHash } from 'node:crypto'
import { expected, GraftError, isGraftError } from '@graft/sdk/format/errors.ts'
import type { ResponseFormat } from '@graft/sdk/protocol/runner-api.ts'
import { toEbnf } from './expression.ts'
import { type GrammarThread, type Outcome, startGrammarThread } from './grammar-thread.ts'
import type { GrammarText, TokenMask, Vocabulary } from './messages.ts'
import { createRecogniser, type Recogniser, type Standing } from './recogniser.ts'
import { objectGrammar, schemaGrammar } from './schema-grammar.ts'

/** What one answer may write next. Its state is its tokens: an answer goes on elsewhere by replaying them. */
export interface Constraint {
  /** Tokens that may come next, as far as the library sees; null while it is being worked out. */
  readonly mask: TokenMask | null
  /** Whether this token may come next indeed. */
  allows(token: number): boolean
  /** The answer may end here. */
  isWhole(): boolean
  /** Waits for the mask after the newest token. @throws ERR_RUNNER_FAILED, ERR_REQUEST_INVALID */
  ready(): Promise<void>
  /** Takes the token that was picked; the next mask is worked out meanwhile. */
  accept(token: number): void
  close(): void
}

export interface Constraints extends AsyncDisposable {
  /**
   * Compiles a format, once per digest.
   * @throws ERR_REQUEST_INVALID naming what of the schema is not supported, or that it asks too much
   */
  prepare(format: ResponseFormat): Promise<(tokens: readonly number[]) => Constraint>
}

/** A schema that needs longer is refused: meanwhile the other constrained answers wait. */
export const COMPILE_MS = 15_000
/** Grammars whose outcome is remembered. */
const MAX_REMEMBERED = 256

interface Grammar extends GrammarText {
  recogniser: Recogniser
}

function grammarOf(format: ResponseFormat): Grammar {
  const rules = format.type === 'json_object' ? objectGrammar() : schemaGrammar(format.schema)
  const ebnf = toEbnf(rules)
  const digest = createHash('sha256').update(ebnf).digest('hex')
  return { ebnf, digest, recogniser: createRecogniser(rules) }
}

function remember<T>(map: Map<string, T>, key: string, value: T): void {
  map.set(key, value)
  if (map.size > MAX_REMEMBERED) map.delete(map.keys().next().value!)
}

/** @param read called once, when a format is first asked for; null when this base's tokens have no bytes of their own */
export function createConstraints(
  read: () => Vocabulary | null,
  options: { compileMs?: number } = {},
): Constraints {
  const { compileMs = COMPILE_MS } = options
  let vocabulary: Vocabulary | null | undefined
  let running: GrammarThread | null = null
  let sessions = 0
  /** Of the thread that runs. */
  const compiled = new Map<string, Promise<void>>()
  const refused = new Map<string, GraftError>()

  /** The thread, started when it is first needed and again when it died. */
  const thread = (): GrammarThread => {
    if (running && !running.dead) return running
    compiled.clear()
    running = startGrammarThread(vocabulary!)
    return running
  }

  async function compile({ digest, ebnf }: GrammarText): Promise<void> {
    const at = thread()
    await at.ready
    let timer: ReturnType<typeof setTimeout> | undefined
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        const error = new GraftError(
          'ERR_REQUEST_INVALID',
          `response_format: the schema takes longer than ${compileMs} ms to compile; ask for less of it (shorter strings and lists)`,
        )
        remember(refused, digest, error)
        reject(error)
        void at.end()
      }, compileMs)
    })
    await Promise.race([at.call({ kind: 'compile', grammar: { digest, ebnf } }), late]).finally(
      () => clearTimeout(timer),
    )
  }

  function open(
    { digest, ebnf, recogniser }: Grammar,
    { bytes, stop }: Vocabulary,
    before: readonly number[],
  ): Constraint {
    const session = ++sessions
    const tokens = [...before]
    const after = (from: Standing, token: number): Standing =>
      bytes[token] ? recogniser.advance(from, bytes[token]) : []
    let standing = recogniser.start()
    for (const token of tokens) {
      standing = after(standing, token)
      if (standing.length === 0)
        throw new GraftError(
          'ERR_REQUEST_INVALID',
          expected('resume', 'tokens that the response_format allows', token),
        )
    }
    let on = thread()
    let mask: TokenMask | null = null
    let closed = false
    /** Of the newest token: older ones are overtaken by a replay. */
    let newest: Promise<void>

    const settle = (outcome: Outcome): void => {
      if ('refused' in outcome)
        throw new GraftError(
          'ERR_INTERNAL',
          `the grammar library refuses token ${outcome.refused}, which the grammar has`,
        )
      mask = outcome.mask
    }
    const replay = (): Promise<void> =>
      on
        .call({ kind: 'open', session, grammar: { digest, ebnf }, tokens: [...tokens] })
        .then(settle)
    /** A thread that another answer's schema killed is no fault of this one: it starts over, once. */
    const track = (work: Promise<void>): void => {
      newest = work.catch((e) => {
        if (closed || !isGraftError(e) || e.code !== 'ERR_RUNNER_FAILED') throw e
        on = thread()
        return replay()
      })
      // ready() tells; an answer that was cancelled never asks.
      newest.catch(() => {})
    }
    track(replay())

    return {
      get mask() {
        return mask
      },
      allows: (token) =>
        stop.includes(token) ? recogniser.isWhole(standing) : after(standing, token).length > 0,
      isWhole: () => recogniser.isWhole(standing),
      ready: () => newest,
      accept(token) {
        tokens.push(token)
        standing = after(standing, token)
        mask = null
        track(on.call({ kind: 'accept', session, token }).then(settle))
      },
      close() {
        if (closed) return
        closed = true
        on.call({ kind: 'close', session }).catch(() => {})
      },
    }
  }

  return {
    async prepare(format) {
      if (vocabulary === undefined) vocabulary = read()
      if (!vocabulary)
        throw new GraftError(
          'ERR_REQUEST_INVALID',
          'response_format needs a tokenizer of bytes or of byte fallback, and the one of this base has neither',
        )
      const grammar = grammarOf(format)
      const no = refused.get(grammar.digest)
      if (no) throw no
      thread()
      const known = compiled.get(grammar.digest)
      const work = known ?? compile(grammar)
      if (!known) {
        remember(compiled, grammar.digest, work)
        work.catch(() => compiled.delete(grammar.digest))
      }
      await work
      const words = vocabulary
      return (tokens) => open(grammar, words, tokens)
    },
    async [Symbol.asyncDispose]() {
      await running?.end()
    },
  }
}

/** The grammar thread: compiles grammars and works out masks, while the engine computes the next logits. */
import { parentPort, workerData } from 'node:worker_threads'
import type { CompiledGrammar, GrammarMatcher } from '@mlc-ai/web-xgrammar'
import { loadLibrary } from './library.ts'
import type { Call, GrammarText, Reply, TokenMask, Vocabulary } from './messages.ts'

/** Compiled grammars kept: some 100 KB each. */
const MAX_GRAMMARS = 64

const port = parentPort!
const { bytes, stop } = workerData as Vocabulary
const reply = (message: Reply, transfer: ArrayBuffer[] = []): void =>
  port.postMessage(message, transfer)

const library = await loadLibrary()
// The binding takes bytes for strings; a token without any is special to it and never allowed.
const tokens = bytes.map((one) => one ?? '') as string[]
const info = await library.TokenizerInfo.createTokenizerInfo(
  tokens,
  'raw',
  false,
  tokens.length,
  stop,
)
// Its own cache never lets go of a grammar.
const compiler = await library.GrammarCompiler.createGrammarCompiler(info, false)

/** Least recently used first. */
const grammars = new Map<string, CompiledGrammar>()
const matchers = new Map<number, GrammarMatcher>()

async function compile({ digest, ebnf }: GrammarText): Promise<CompiledGrammar> {
  const grammar = grammars.get(digest) ?? (await compiler.compileGrammar(ebnf))
  grammars.delete(digest)
  grammars.set(digest, grammar)
  for (const [oldest, held] of grammars) {
    if (grammars.size <= MAX_GRAMMARS) break
    grammars.delete(oldest)
    // Matchers share what they need of it.
    held.dispose()
  }
  return grammar
}

async function answer(call: Call): Promise<TokenMask | null | { refused: number }> {
  if (call.kind === 'compile') {
    await compile(call.grammar)
    return null
  }
  if (call.kind === 'close') {
    matchers.get(call.session)?.dispose()
    matchers.delete(call.session)
    return null
  }
  if (call.kind === 'open') {
    const grammar = await compile(call.grammar)
    const made = await library.GrammarMatcher.createGrammarMatcher(grammar)
    matchers.set(call.session, made)
    for (const token of call.tokens) if (!made.acceptToken(token)) return { refused: token }
    return made.getNextTokenBitmask()
  }
  const matcher = matchers.get(call.session)!
  if (!matcher.acceptToken(call.token)) return { refused: call.token }
  return matcher.isTerminated() ? null : matcher.getNextTokenBitmask()
}

/** One call at a time, in order: the library's functions are promises, and a session's calls must not overtake. */
let last: Promise<void> = Promise.resolve()
port.on('message', (call: Call) => {
  last = last.then(async () => {
    try {
      const got = await answer(call)
      if (got && 'refused' in got) reply({ kind: 'refused', id: call.id, token: got.refused })
      else reply({ kind: 'done', id: call.id, mask: got }, got ? [got.buffer as ArrayBuffer] : [])
    } catch (error) {
      reply({ kind: 'error', id: call.id, message: String(error) })
      // An abort inside WebAssembly leaves nothing behind that could go on.
      process.exit(1)
    }
  })
})
reply({ kind: 'ready' })

import type { Expression, Rules } from './expression.ts'

/** What is left to match once the present part is through; shared between threads, never changed. */
type Rest = { part: Part; rest: Rest } | null

/** A class: which ASCII it takes, and whether it takes the characters beyond. */
interface Class {
  ascii: boolean[]
  beyond: boolean
}

/** An expression as it is walked: literals as UTF-8, classes read, rules looked up when they are met. */
type Part =
  | { kind: 'bytes'; bytes: Uint8Array; at: number }
  | { kind: 'class'; class: Class }
  /** The second and later bytes of a character: `left` of them, the next one within bounds. */
  | { kind: 'more'; left: number; from: number; to: number }
  | { kind: 'seq'; parts: Part[] }
  | { kind: 'any'; parts: Part[] }
  | { kind: 'times'; part: Part; min: number; max: number }
  | { kind: 'rule'; name: string }

/** One way in which the text so far can go on: the part that takes the next byte, null at the end of the text. */
interface Thread {
  part: Part | null
  rest: Rest
}

/** Threads after a byte, and what they went on with: two that go on with the same are one. */
interface Opened {
  threads: Thread[]
  seen: Set<Rest>
}

/** All ways in which the text so far can go on; none when it is not in the grammar. */
export type Standing = readonly Thread[]

/** Tells exactly what a grammar takes, byte by byte, and knows nothing of tokens. */
export interface Recogniser {
  start(): Standing
  advance(standing: Standing, bytes: Uint8Array): Standing
  /** The text may end here. */
  isWhole(standing: Standing): boolean
}

function readClass(body: string): Class {
  const negated = body.startsWith('[^')
  const text = body.slice(negated ? 2 : 1, -1)
  const codes: number[] = []
  const dashes: boolean[] = []
  const token = /\\x([0-9a-f]{2})|\\t|\\(.)|[\s\S]/gy
  for (let match = token.exec(text); match; match = token.exec(text)) {
    const [whole, code, escaped] = match
    dashes.push(whole === '-')
    if (code !== undefined) codes.push(Number.parseInt(code, 16))
    else codes.push(whole === '\\t' ? 9 : (escaped ?? whole).codePointAt(0)!)
  }
  const ascii = new Array<boolean>(128).fill(negated)
  for (let i = 0; i < codes.length; i++) {
    const range = dashes[i + 1] && i + 2 < codes.length
    const to = range ? codes[i + 2]! : codes[i]!
    for (let code = codes[i]!; code <= to; code++) ascii[code] = !negated
    if (range) i += 2
  }
  return { ascii, beyond: negated }
}

const utf8 = new TextEncoder()

function readPart(expression: Expression): Part {
  if (typeof expression === 'string')
    return { kind: 'bytes', bytes: utf8.encode(expression), at: 0 }
  if ('set' in expression) return { kind: 'class', class: readClass(expression.set) }
  if ('rule' in expression) return { kind: 'rule', name: expression.rule }
  if ('seq' in expression) return { kind: 'seq', parts: expression.seq.map(readPart) }
  if ('any' in expression) return { kind: 'any', parts: expression.any.map(readPart) }
  const { of, min, max } = expression
  return { kind: 'times', part: readPart(of), min, max: max ?? Number.POSITIVE_INFINITY }
}

/** What follows the first byte of a character of several (Unicode 15, table 3-7); null when none starts so. */
function leadOf(byte: number): Part | null {
  const more = (left: number, from = 0x80, to = 0xbf): Part => ({ kind: 'more', left, from, to })
  if (byte >= 0xc2 && byte <= 0xdf) return more(1)
  if (byte >= 0xe0 && byte <= 0xef)
    return more(2, byte === 0xe0 ? 0xa0 : 0x80, byte === 0xed ? 0x9f : 0xbf)
  if (byte >= 0xf0 && byte <= 0xf4)
    return more(3, byte === 0xf0 ? 0x90 : 0x80, byte === 0xf4 ? 0x8f : 0xbf)
  return null
}

/**
 * Follows every parse of a text at once, each with its own stack. `rules` are neither left recursive nor repeat what may
 * be empty.
 */
export function createRecogniser(rules: Rules): Recogniser {
  const parts = new Map([...rules].map(([name, expression]) => [name, readPart(expression)]))

  /** Opens parts until each thread stands before a byte. */
  function open(part: Part, rest: Rest, into: Opened): void {
    if (part.kind === 'rule') open(parts.get(part.name)!, rest, into)
    else if (part.kind === 'any') for (const choice of part.parts) open(choice, rest, into)
    else if (part.kind === 'seq') {
      let after = rest
      for (let i = part.parts.length - 1; i > 0; i--) after = { part: part.parts[i]!, rest: after }
      if (part.parts.length > 0) open(part.parts[0]!, after, into)
      else close(rest, into)
    } else if (part.kind === 'times') {
      const { min, max } = part
      if (min === 0) close(rest, into)
      if (max > 0) {
        const again: Part = { ...part, min: Math.max(0, min - 1), max: max - 1 }
        open(part.part, { part: again, rest }, into)
      }
    } else if (part.kind === 'bytes' && part.at === part.bytes.length) close(rest, into)
    else into.threads.push({ part, rest })
  }

  function close(rest: Rest, into: Opened): void {
    if (into.seen.has(rest)) return
    into.seen.add(rest)
    if (rest) open(rest.part, rest.rest, into)
    else into.threads.push({ part: null, rest: null })
  }

  function take({ part, rest }: Thread, byte: number, into: Opened): void {
    if (part?.kind === 'bytes') {
      if (part.bytes[part.at] === byte) open({ ...part, at: part.at + 1 }, rest, into)
    } else if (part?.kind === 'class') {
      if (byte < 0x80) {
        if (part.class.ascii[byte]) close(rest, into)
        return
      }
      const more = part.class.beyond ? leadOf(byte) : null
      if (more) into.threads.push({ part: more, rest })
    } else if (part?.kind === 'more' && byte >= part.from && byte <= part.to) {
      if (part.left === 1) close(rest, into)
      else
        into.threads.push({
          part: { kind: 'more', left: part.left - 1, from: 0x80, to: 0xbf },
          rest,
        })
    }
  }

  const nothing = (): Opened => ({ threads: [], seen: new Set() })

  return {
    start() {
      const into = nothing()
      open({ kind: 'rule', name: 'root' }, null, into)
      return into.threads
    },
    advance(standing, bytes) {
      let threads = standing
      for (const byte of bytes) {
        if (threads.length === 0) break
        const into = nothing()
        for (const thread of threads) take(thread, byte, into)
        threads = into.threads
      }
      return threads
    },
    isWhole: (standing) => standing.some(({ part }) => part === null),
  }
}

import { GraftError } from '@graft/sdk/format/errors.ts'

/** Module paths are short; a longer pattern was not written by a person. */
const MAX_PATTERN_LENGTH = 1024
/** Backtracking grows with a path's length to this power: bounded on the paths a base has. */
const MAX_UNBOUNDED = 4

const refuse = (pattern: string, why: string): never => {
  throw new GraftError(
    'ERR_METHOD_UNSUPPORTED',
    `pattern ${JSON.stringify(pattern)} ${why}; write the module names out`,
  )
}

/** The subset in which Python's re and ECMAScript agree and that cannot backtrack without bound. */
const TOKEN =
  /\\[dDwWsSbB]|\\[^A-Za-z0-9]|\[\^?\]?(?:\\[dDwWsS]|\\[^A-Za-z0-9]|[^\]\\])*\]|\(\?[:=!]|[()|.^$]|(?:[*+?]|\{\d+(?:,\d*)?\})\??|[^\\[\](){}*+?|.^$]/y

/**
 * A Python regular expression as a JavaScript one; `whole` wraps it. A repeated group that holds a
 * quantifier or a choice (`(a+)+`, `(a|aa)*`) is refused: it can take exponential time.
 * @throws ERR_METHOD_UNSUPPORTED
 */
export function compilePythonPattern(pattern: string, whole: (body: string) => string): RegExp {
  if (pattern.length > MAX_PATTERN_LENGTH) refuse(pattern.slice(0, 80), 'is too long')
  /** Per open group: it can match one text in more than one way. */
  const ambiguous: boolean[] = [false]
  let unbounded = 0
  let closed = false
  let body = ''
  for (let at = 0; at < pattern.length; ) {
    TOKEN.lastIndex = at
    const token = TOKEN.exec(pattern)?.[0] ?? refuse(pattern, 'uses syntax that is not supported')
    at += token.length
    // A bracket that opens a set is one of its members in Python; in ECMAScript it would close an empty set.
    body += token.replace(/^\[(\^?)\]/, '[$1\\]')
    const isQuantifier = /^(?:[*+?]|\{\d)/.test(token)
    if (isQuantifier) {
      if (closed && token[0] !== '?') refuse(pattern, 'repeats a group that repeats or chooses')
      if (token[0] !== '?' && ++unbounded > MAX_UNBOUNDED) refuse(pattern, 'repeats too much')
      ambiguous[ambiguous.length - 1] = true
    }
    closed = false
    if (token === '(' && pattern[at] === '?') refuse(pattern, 'uses syntax that is not supported')
    if (token.startsWith('(')) ambiguous.push(false)
    if (token === '|') ambiguous[ambiguous.length - 1] = true
    if (token === ')') {
      const inner = ambiguous.pop() ?? false
      if (ambiguous.length === 0) refuse(pattern, 'has unbalanced parentheses')
      closed = inner
      if (inner) ambiguous[ambiguous.length - 1] = true
    }
  }
  try {
    return new RegExp(whole(body))
  } catch {
    return refuse(pattern, 'uses syntax that is not supported')
  }
}

/** Python's re.fullmatch. */
export const fullMatch = (pattern: string): RegExp =>
  compilePythonPattern(pattern, (body) => `^(?:${body})$`)

/** How PEFT matches keys of rank_pattern and alpha_pattern: at the end of the path, after a dot. */
export const suffixMatch = (pattern: string): RegExp =>
  compilePythonPattern(pattern, (body) => `^(?:.*\\.)?(?:${body})$`)

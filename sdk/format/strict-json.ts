import { type ErrorCode, expected, GraftError } from './errors.ts'

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json }

/** Deeper than any manifest or header nests; keeps hostile input from exhausting the stack. */
export const MAX_JSON_DEPTH = 64

const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y
const SPACE = /[\t\n\r ]*/y
/** A run of plain characters: RFC 8259 forbids raw control characters. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: the grammar names them
const PLAIN = /[^"\\\u0000-\u001f]*/y
const ESCAPE = /\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})/y

/** UTF-8 bytes as text; a byte order mark and malformed sequences are refused, never replaced. */
export function decodeUtf8(bytes: Uint8Array, where: string, code: ErrorCode): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch (cause) {
    throw new GraftError(code, `${where} must be UTF-8 text, got malformed bytes`, { cause })
  }
}

/**
 * RFC 8259 JSON, stricter than JSON.parse: a name that occurs twice in one object (at any depth), a number
 * beyond f64, an unpaired surrogate and nesting over MAX_JSON_DEPTH are refused.
 * Two readers can then never see two different documents in the same bytes.
 * @param options.integersOnly refuses `1.0`, `1e0` and `-0` too: readers with integer types do not take them
 */
export function parseStrictJson(
  input: Uint8Array | string,
  where: string,
  code: ErrorCode = 'ERR_JSON_INVALID',
  { integersOnly = false }: { integersOnly?: boolean } = {},
): Json {
  const text = typeof input === 'string' ? input : decodeUtf8(input, where, code)
  let at = 0
  const fail = (what: string): never => {
    const got = at < text.length ? text.slice(at, at + 20) : 'the end'
    throw new GraftError(code, expected(`${where}: character ${at}`, what, got))
  }
  const match = (pattern: RegExp): string | null => {
    pattern.lastIndex = at
    const found = pattern.exec(text)
    if (found === null) return null
    at = pattern.lastIndex
    return found[0]
  }
  const take = (mark: string): boolean => {
    if (text[at] !== mark) return false
    at++
    return true
  }
  const string = (): string => {
    const start = at
    let escaped = false
    // Piece by piece: one pattern for the whole of a long text would exhaust the stack.
    if (take('"')) while (match(PLAIN) !== null && match(ESCAPE) !== null) escaped = true
    if (at === start || !take('"')) {
      at = start
      fail('a JSON string')
    }
    const raw = text.slice(start, at)
    const value = escaped ? (JSON.parse(raw) as string) : raw.slice(1, -1)
    if (value.isWellFormed()) return value
    at = start
    return fail('a string without unpaired surrogates')
  }
  const literal = (word: string, value: Json): Json => {
    if (!text.startsWith(word, at)) return fail('a JSON value')
    at += word.length
    return value
  }
  const members = (depth: number): Json => {
    const object: { [key: string]: Json } = {}
    at++
    match(SPACE)
    if (take('}')) return object
    for (;;) {
      const start = at
      const key = string()
      if (Object.hasOwn(object, key)) {
        at = start
        fail('a name that the object does not hold yet')
      }
      match(SPACE)
      if (!take(':')) fail('":"')
      // defineProperty: assigning to "__proto__" would set the prototype and hide the member.
      const descriptor = {
        value: value(depth),
        enumerable: true,
        writable: true,
        configurable: true,
      }
      Object.defineProperty(object, key, descriptor)
      if (take('}')) return object
      if (!take(',')) fail('"," or "}"')
      match(SPACE)
    }
  }
  const elements = (depth: number): Json => {
    const array: Json[] = []
    at++
    match(SPACE)
    if (take(']')) return array
    for (;;) {
      array.push(value(depth))
      if (take(']')) return array
      if (!take(',')) fail('"," or "]"')
    }
  }
  const number = (): Json => {
    const start = at
    const token = match(NUMBER) ?? fail('a JSON value')
    const value = Number(token)
    const refusal = !Number.isFinite(value)
      ? 'a number that fits f64'
      : integersOnly && (/[.eE]/.test(token) || Object.is(value, -0))
        ? 'an integer of digits only'
        : null
    if (refusal === null) return value
    at = start
    return fail(refusal)
  }
  const value = (depth: number): Json => {
    match(SPACE)
    const first = text[at]
    if (depth >= MAX_JSON_DEPTH && (first === '{' || first === '['))
      fail(`nested at most ${MAX_JSON_DEPTH} deep`)
    const result =
      first === '{'
        ? members(depth + 1)
        : first === '['
          ? elements(depth + 1)
          : first === '"'
            ? string()
            : first === 't'
              ? literal('true', true)
              : first === 'f'
                ? literal('false', false)
                : first === 'n'
                  ? literal('null', null)
                  : number()
    match(SPACE)
    return result
  }
  const result = value(0)
  if (at < text.length) fail('the end of the document')
  return result
}

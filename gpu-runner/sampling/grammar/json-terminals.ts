import { any, type Expression, optional, type Rules, rule, seq, set, times } from './expression.ts'

const hex = (code: number): string => `\\x${code.toString(16).padStart(2, '0')}`
/** Printing ASCII without quote and backslash, as ranges. */
const ASCII: readonly (readonly [number, number])[] = [
  [0x20, 0x21],
  [0x23, 0x5b],
  [0x5d, 0x7e],
]

/**
 * What may stand unescaped in a JSON string, no quote, backslash or control character, without `codes` (code points).
 * The library is sound for classes of ASCII and for those that exclude ASCII, and for no other: where a character
 * beyond ASCII is excluded, all of them are.
 */
export function plainExcept(codes: readonly number[]): Expression {
  if (codes.every((code) => code < 0x80))
    return set(`^\\x00-\\x1f\\x22\\x5c${codes.map(hex).join('')}`)
  const ranges = codes.reduce(
    (all, code) =>
      all.flatMap(([from, to]) => {
        if (code < from || code > to) return [[from, to] as const]
        const halves = [[from, code - 1] as const, [code + 1, to] as const]
        return halves.filter(([low, high]) => low <= high)
      }),
    ASCII,
  )
  return set(ranges.map(([from, to]) => `${hex(from)}-${hex(to)}`).join(''))
}

export const PLAIN = plainExcept([])
export const DIGIT = set('0-9')
export const HEX = set('0-9a-fA-F')

/** Unbounded white space would let a model write nothing else for ever. */
const MAX_INDENT = 12
/** Beyond this many digits a double no longer tells neighbours apart. */
export const MAX_DIGITS = 15

/** White space between the tokens of JSON: none, a space, or a new line and its indent. */
export const WS = rule('ws')
export const STRING = rule('string')
export const NUMBER = rule('number')
export const INTEGER = rule('integer')
export const VALUE = rule('value')
export const OBJECT = rule('object')

const WHOLE = any('0', seq(set('1-9'), times(DIGIT, 0, MAX_DIGITS - 1)))

/** `open`, items with commas between, `close`. */
export const listOf = (open: string, item: Expression, close: string): Expression =>
  seq(open, WS, optional(seq(item, times(seq(',', WS, item), 0, null), WS)), close)

/** What every JSON grammar may use. */
export function jsonRules(): Rules {
  const escaped = any(
    set('"\\\\/bfnrt'),
    // Not the surrogates, which only mean something in pairs.
    seq('u', any(seq(set('0-9A-CE-Fa-ce-f'), HEX), seq(set('Dd'), set('0-7'))), HEX, HEX),
  )
  return new Map<string, Expression>([
    ['ws', any('', ' ', seq('\n', times(' ', 0, MAX_INDENT)))],
    // By recursion and not by repetition: the library answers this form at once.
    ['string', seq('"', rule('chars'))],
    ['chars', any('"', seq(PLAIN, rule('chars')), seq('\\', escaped, rule('chars')))],
    ['integer', seq(optional('-'), WHOLE)],
    [
      'number',
      seq(
        optional('-'),
        WHOLE,
        optional(seq('.', times(DIGIT, 1, MAX_DIGITS))),
        optional(seq(set('eE'), optional(set('+\\-')), times(DIGIT, 1, 2))),
      ),
    ],
    ['value', any(OBJECT, rule('array'), STRING, NUMBER, 'true', 'false', 'null')],
    ['array', listOf('[', VALUE, ']')],
    ['object', listOf('{', seq(STRING, ':', WS, VALUE), '}')],
  ])
}

import { any, type Expression, optional, seq, set, times } from './expression.ts'
import { DIGIT, HEX } from './json-terminals.ts'

const two = (from: string, to: string): Expression => {
  const [a, b] = [Number(from[0]), Number(to[0])]
  const choices: Expression[] = []
  for (let tens = a; tens <= b; tens++) {
    const low = tens === a ? from[1] : '0'
    const high = tens === b ? to[1] : '9'
    choices.push(seq(String(tens), set(`${low}-${high}`)))
  }
  return any(...choices)
}

/** Days that every month has of its kind: no 29 February, which only some years have. */
const MONTH_DAY = any(
  seq(any('01', '03', '05', '07', '08', '10', '12'), '-', two('01', '31')),
  seq(any('04', '06', '09', '11'), '-', two('01', '30')),
  seq('02-', two('01', '28')),
)
const DATE = seq(set('1-9'), times(DIGIT, 3), '-', MONTH_DAY)
const CLOCK = seq(two('00', '23'), ':', two('00', '59'))
const TIME = seq(
  CLOCK,
  ':',
  two('00', '59'),
  optional(seq('.', times(DIGIT, 1, 6))),
  any('Z', seq(set('+\\-'), CLOCK)),
)
const hex = (count: number): Expression => times(HEX, count)
const OCTET = any(
  DIGIT,
  seq(set('1-9'), DIGIT),
  seq('1', DIGIT, DIGIT),
  seq('2', set('0-4'), DIGIT),
  seq('25', set('0-5')),
)
const LABEL = seq(set('a-z0-9'), times(set('a-z0-9'), 0, 30))

/** Values of `format` (RFC 3339, 4122, 2673, 5321): each a part of its language that every validator takes. */
export const FORMATS: Record<string, Expression> = {
  date: DATE,
  time: TIME,
  'date-time': seq(DATE, 'T', TIME),
  uuid: seq(hex(8), '-', hex(4), '-4', hex(3), '-', set('89ab'), hex(3), '-', hex(12)),
  ipv4: seq(OCTET, '.', OCTET, '.', OCTET, '.', OCTET),
  email: seq(
    set('a-z0-9'),
    times(set('a-z0-9_'), 0, 40),
    times(seq('.', LABEL), 0, 2),
    '@',
    times(seq(LABEL, '.'), 1, 3),
    times(set('a-z'), 2, 6),
  ),
}

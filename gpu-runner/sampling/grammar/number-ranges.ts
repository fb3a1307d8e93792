import { any, type Expression, optional, seq, set, times } from './expression.ts'
import { DIGIT, MAX_DIGITS } from './json-terminals.ts'

/** Integers beyond are not told apart by a double. */
export const MAX_INTEGER = 10 ** MAX_DIGITS - 1
/** Stands for "no bound" beside one bound of a number: leaves room for decimals that a double keeps. */
const MAX_MAGNITUDE = 10 ** 9

const digits = (count: number): Expression => times(DIGIT, count)
const span = (from: string, to: string): Expression => (from === to ? from : set(`${from}-${to}`))
const next = (digit: string, by: number): string => String(Number(digit) + by)

/** Decimal texts of one length, from `low` to `high`. */
function between(low: string, high: string): Expression {
  if (/^0+$/.test(low) && /^9+$/.test(high)) return digits(low.length)
  const [a, b] = [low[0]!, high[0]!]
  const rest = low.length - 1
  if (rest === 0) return span(a, b)
  const [lowRest, highRest] = [low.slice(1), high.slice(1)]
  if (a === b) return seq(a, between(lowRest, highRest))
  const choices = [
    seq(a, between(lowRest, '9'.repeat(rest))),
    seq(b, between('0'.repeat(rest), highRest)),
  ]
  if (Number(b) - Number(a) > 1) choices.push(seq(span(next(a, 1), next(b, -1)), digits(rest)))
  return any(...choices)
}

/** Whole numbers from `low` to `high`, both at least 0, without leading zeros. */
function wholes(low: number, high: number): Expression {
  const choices: Expression[] = []
  for (let size = String(low).length; size <= String(high).length; size++) {
    const from = size === 1 ? 0 : 10 ** (size - 1)
    const to = 10 ** size - 1
    choices.push(between(String(Math.max(low, from)), String(Math.min(high, to))))
  }
  return any(...choices)
}

export interface Bounds {
  low: number
  high: number
  /** The bound itself is left out. */
  lowOpen: boolean
  highOpen: boolean
}

/** Integers within bounds, which are integers too; null when there is none. */
export function integersWithin(bounds: Bounds): Expression | null {
  const low = Math.max(bounds.low + (bounds.lowOpen ? 1 : 0), -MAX_INTEGER)
  const high = Math.min(bounds.high - (bounds.highOpen ? 1 : 0), MAX_INTEGER)
  if (low > high) return null
  const choices: Expression[] = []
  if (low < 0) choices.push(seq('-', wholes(Math.max(1, -high), -low)))
  if (high >= 0) choices.push(wholes(Math.max(0, low), high))
  return any(...choices)
}

/** Decimals of at least 0 within bounds, without exponent. */
function decimals({ low, high, lowOpen, highOpen }: Bounds): Expression[] {
  // So few digits that no decimal rounds up to the next whole number.
  const room = Math.max(1, MAX_DIGITS - 1 - String(high).length)
  const fraction = optional(seq('.', times(DIGIT, 1, room)))
  const zeros = optional(seq('.', times('0', 1, room)))
  const choices: Expression[] = []
  if (lowOpen && low < high) {
    const more = Array.from({ length: room }, (_, at) =>
      seq(times('0', at), set('1-9'), times(DIGIT, 0, room - at - 1)),
    )
    choices.push(seq(String(low), '.', any(...more)))
  }
  const first = lowOpen ? low + 1 : low
  if (first <= high - 1) choices.push(seq(wholes(first, high - 1), fraction))
  if (!highOpen && (high > low || !lowOpen)) choices.push(seq(String(high), zeros))
  return choices
}

/** Numbers within bounds, which are integers; null when there is none. */
export function numbersWithin(bounds: Bounds): Expression | null {
  const low = Math.max(bounds.low, -Math.max(MAX_MAGNITUDE, -bounds.high + MAX_MAGNITUDE))
  const high = Math.min(bounds.high, Math.max(MAX_MAGNITUDE, bounds.low + MAX_MAGNITUDE))
  const { lowOpen, highOpen } = bounds
  const choices: Expression[] = []
  if (low < 0 && low <= high) {
    const mirrored =
      high < 0
        ? { low: -high, high: -low, lowOpen: highOpen, highOpen: lowOpen }
        : { low: 0, high: -low, lowOpen: true, highOpen: lowOpen }
    choices.push(...decimals(mirrored).map((one) => seq('-', one)))
  }
  if (high > 0 || (high === 0 && !highOpen)) {
    const from = Math.max(0, low)
    if (from <= high)
      choices.push(...decimals({ low: from, high, lowOpen: low >= 0 && lowOpen, highOpen }))
  }
  return choices.length > 0 ? any(...choices) : null
}

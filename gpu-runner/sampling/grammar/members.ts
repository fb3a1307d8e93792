import { any, type Expression, optional, type Rules, rule, seq, times } from './expression.ts'
import { WS } from './json-terminals.ts'

const COMMA = seq(',', WS)

/** At least `min` and at most `max` items of a list, with what separates them: those of `first`, then others. */
export function itemsOf(
  first: Expression[],
  item: Expression,
  min: number,
  max: number | null,
): Expression {
  const fixed = first.slice(0, max ?? first.length)
  const more = seq(COMMA, item)
  const left = max === null ? null : max - fixed.length
  // Items beyond `first`, when at least one item stands before them.
  const rest = left === 0 ? '' : times(more, Math.max(0, min - fixed.length), left)
  let body: Expression | null = null
  for (let i = fixed.length - 1; i >= 0; i--) {
    const one = seq(i === 0 ? '' : COMMA, fixed[i]!, body ?? rest)
    body = i >= min ? optional(one) : one
  }
  if (body === null) {
    const some = seq(item, times(more, Math.max(0, min - 1), max === null ? null : max - 1))
    body = min === 0 ? optional(some) : some
  }
  return seq(body, WS)
}

export interface Pair {
  /** Name, colon and value. */
  text: Expression
  /** It must be there. */
  must: boolean
}

/** Pairs in their order, those that need not be there left out at will, then any number of `other`. */
export function pairsOf(
  rules: Rules,
  base: string,
  pairs: Pair[],
  other: Expression | null,
): Expression {
  // `before`: a pair stands in front, so the next one needs a comma.
  const name = (at: number, before: boolean): string => `${base}x${at}${before ? 'm' : ''}`
  const last = pairs.length
  rules.set(name(last, true), other ? seq(times(seq(COMMA, other), 0, null), WS) : WS)
  rules.set(name(last, false), other ? optional(seq(other, rule(name(last, true)))) : '')
  for (const [at, { text, must }] of pairs.entries())
    for (const before of [true, false]) {
      const taken = seq(before ? COMMA : '', text, rule(name(at + 1, true)))
      rules.set(name(at, before), must ? taken : any(taken, rule(name(at + 1, before))))
    }
  return rule(name(0, false))
}

import { any, type Expression, type Rules, rule, seq, times } from './expression.ts'
import { PLAIN, plainExcept, STRING } from './json-terminals.ts'

/** The library unrolls counted characters and needs a second for some hundreds of them. */
export const MAX_COUNTED = 1024
/** Of these many it makes one table, reused by every longer string. */
const BLOCK = 64

/**
 * A string of so many characters (code points), quotes included. Counted strings hold plain characters alone: an escape
 * is one character in the value and several in the text, and no schema needs it.
 */
export function countedString(rules: Rules, min: number, max: number | null): Expression {
  if (max === null) return min === 0 ? STRING : seq('"', times(PLAIN, min), rule('chars'))
  const more = max - min
  if (more <= 2 * BLOCK) return seq('"', times(PLAIN, min), times(PLAIN, 0, more), '"')
  // A chain of blocks: characters are counted one by one only in the block where the string ends.
  rules.set('block', seq(...new Array<Expression>(BLOCK).fill(PLAIN)))
  rules.set('tail', seq(times(PLAIN, 0, BLOCK - 1), '"'))
  const name = `upto${more}`
  const blocks = Math.floor(more / BLOCK)
  rules.set(`${name}x0`, seq(times(PLAIN, 0, more % BLOCK), '"'))
  for (let i = 1; i <= blocks; i++)
    rules.set(`${name}x${i}`, any(rule('tail'), seq(rule('block'), rule(`${name}x${i - 1}`))))
  return seq('"', times(PLAIN, min), rule(`${name}x${blocks}`))
}

interface Branch {
  ends: boolean
  next: Map<string, Branch>
}

/** A property name in quotes that is none of `names`. It holds no escape, by which one of them could be spelt. */
export function otherName(names: readonly string[]): Expression {
  const root: Branch = { ends: false, next: new Map() }
  for (const name of names) {
    let at = root
    for (const char of name) {
      const next = at.next.get(char) ?? { ends: false, next: new Map() }
      at.next.set(char, next)
      at = next
    }
    at.ends = true
  }
  const rest = (at: Branch): Expression => {
    const chars = [...at.next.keys()]
    const known = chars.filter((char) => char !== '"' && char !== '\\' && char >= ' ')
    const choices: Expression[] = known.map((char) => seq(char, rest(at.next.get(char)!)))
    choices.push(seq(plainExcept(known.map((char) => char.codePointAt(0)!)), times(PLAIN, 0, null)))
    if (!at.ends) choices.push('')
    return any(...choices)
  }
  return seq('"', rest(root), '"')
}

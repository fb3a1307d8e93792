/*
 * SPDX licence expressions (SPDX 2.3, annex D): identifiers, "+", WITH, AND, OR and parentheses. Identifiers match whatever
 * their case; operators are upper case.
 */

const TOKEN = /\s*(\(|\)|[A-Za-z0-9][A-Za-z0-9.:-]*\+?)/y

type Tree = { id: string } | { and: [Tree, Tree] } | { or: [Tree, Tree] }

const OPERATORS = ['AND', 'OR', 'WITH']

/** Null when the text is no expression. */
function parse(text: string): Tree | null {
  const tokens: string[] = []
  TOKEN.lastIndex = 0
  for (let at = 0; text.slice(at).trim() !== ''; at = TOKEN.lastIndex) {
    const match = TOKEN.exec(text)
    if (match === null) return null
    tokens.push(match[1]!)
  }
  let at = 0
  const take = (token: string): boolean => tokens[at] === token && at++ >= 0
  const identifier = (): string | null => {
    const token = tokens[at]
    if (token === undefined || '()'.includes(token) || OPERATORS.includes(token)) return null
    at++
    return token.toLowerCase()
  }
  const term = (): Tree | null => {
    if (take('(')) {
      const inner = either()
      return take(')') ? inner : null
    }
    const id = identifier()
    if (id === null || !take('WITH')) return id === null ? null : { id }
    const exception = identifier()
    return exception === null ? null : { id: `${id} with ${exception}` }
  }
  const both = (): Tree | null => {
    let left = term()
    while (left !== null && take('AND')) {
      const right = term()
      left = right && { and: [left, right] }
    }
    return left
  }
  const either = (): Tree | null => {
    let left = both()
    while (left !== null && take('OR')) {
      const right = both()
      left = right && { or: [left, right] }
    }
    return left
  }
  const tree = either()
  return at === tokens.length ? tree : null
}

/** Ids as `Apache-2.0`, `GPL-2.0-only WITH Classpath-exception-2.0`: what a caller may allow. */
export const isLicenceId = (text: string): boolean => {
  const tree = parse(text)
  return tree !== null && 'id' in tree
}

/**
 * Whether the terms of an expression can be met with allowed licences alone. "X+" may be used under X, so that allowing X
 * is enough.
 * @returns null when the text is no SPDX expression
 */
export function allowsLicence(expression: string, allowed: readonly string[]): boolean | null {
  const ids = new Set(allowed.map((id) => id.toLowerCase().replace(/\s+/g, ' ')))
  const met = (tree: Tree): boolean => {
    if ('and' in tree) return tree.and.every(met)
    if ('or' in tree) return tree.or.some(met)
    return ids.has(tree.id) || ids.has(tree.id.replace(/\+(?= |$)/, ''))
  }
  const tree = parse(expression)
  return tree && met(tree)
}

/** A grammar as a tree; rules are referred to by name, so that they may recurse. */
export type Expression =
  /** Literal text. */
  | string
  /** One character of an EBNF class, `[0-9]`. */
  | { set: string }
  | { seq: Expression[] }
  | { any: Expression[] }
  | { of: Expression; min: number; max: number | null }
  | { rule: string }

/** Rules by name. */
export type Rules = Map<string, Expression>

export const set = (body: string): Expression => ({ set: `[${body}]` })
export const seq = (...parts: Expression[]): Expression => ({ seq: parts })
export const any = (...choices: Expression[]): Expression => ({ any: choices })
export const optional = (of: Expression): Expression => any('', of)
export const times = (of: Expression, min: number, max: number | null = min): Expression => ({
  of,
  min,
  max,
})
export const rule = (name: string): Expression => ({ rule: name })

function quote(text: string): string {
  const escaped = [...text].map((c) => {
    const code = c.codePointAt(0)!
    if (c === '"' || c === '\\') return `\\${c}`
    return code < 0x20 || code === 0x7f ? `\\x${code.toString(16).padStart(2, '0')}` : c
  })
  return `"${escaped.join('')}"`
}

function print(expression: Expression): string {
  if (typeof expression === 'string') return quote(expression)
  if ('set' in expression) return expression.set
  if ('rule' in expression) return expression.rule
  if ('seq' in expression) return expression.seq.map(print).join(' ') || '""'
  if ('any' in expression) return `(${expression.any.map(print).join(' | ')})`
  const { of, min, max } = expression
  const body = typeof of === 'object' && 'seq' in of ? `(${print(of)})` : print(of)
  if (max === null) return min === 0 ? `${body}*` : `${body}{${min},}`
  return `${body}{${min},${max}}`
}

/** The EBNF that the library reads; `root` is where it starts. */
export const toEbnf = (rules: Rules): string =>
  [...rules].map(([name, expression]) => `${name} ::= ${print(expression)}\n`).join('')

/** Whether every rule can come to an end. A schema that asks for itself without a way out has no value. */
export function isProductive(rules: Rules): boolean {
  const ends = new Set<string>()
  const check = (expression: Expression): boolean => {
    if (typeof expression === 'string' || 'set' in expression) return true
    if ('rule' in expression) return ends.has(expression.rule)
    if ('seq' in expression) return expression.seq.every(check)
    if ('any' in expression) return expression.any.some(check)
    return expression.min === 0 || check(expression.of)
  }
  for (let grown = true; grown; ) {
    grown = false
    for (const [name, expression] of rules)
      if (!ends.has(name) && check(expression)) {
        ends.add(name)
        grown = true
      }
  }
  return ends.size === rules.size
}

/** Whether a rule may begin with itself before any character: such a schema says nothing. */
export function isLeftRecursive(rules: Rules): boolean {
  const empty = (expression: Expression): boolean => {
    if (typeof expression === 'string') return expression === ''
    if ('set' in expression || 'rule' in expression) return false
    if ('seq' in expression) return expression.seq.every(empty)
    if ('any' in expression) return expression.any.some(empty)
    return expression.min === 0 || empty(expression.of)
  }
  const first = (expression: Expression): string[] => {
    if (typeof expression === 'string' || 'set' in expression) return []
    if ('rule' in expression) return [expression.rule]
    if ('any' in expression) return expression.any.flatMap(first)
    if ('of' in expression) return first(expression.of)
    const solid = expression.seq.findIndex((part) => !empty(part))
    return expression.seq.slice(0, solid < 0 ? undefined : solid + 1).flatMap(first)
  }
  const edges = new Map([...rules].map(([name, expression]) => [name, first(expression)]))
  const done = new Set<string>()
  const visit = (name: string, path: Set<string>): boolean => {
    if (path.has(name)) return true
    if (done.has(name)) return false
    path.add(name)
    const found = (edges.get(name) ?? []).some((next) => visit(next, path))
    path.delete(name)
    done.add(name)
    return found
  }
  return [...rules.keys()].some((name) => visit(name, new Set()))
}

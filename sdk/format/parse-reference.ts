import { isDigest, parseDigest } from './digest.ts'
import { expected, GraftError } from './errors.ts'
import type { AdapterReference, ModelReference } from './reference.ts'
import { isRange } from './semver.ts'

/** `@scope/name`: lower case, so that two packages never differ by case alone. */
const PACKAGE = /^@[a-z0-9][a-z0-9-]{0,38}\/[a-z0-9][a-z0-9._-]{0,63}$/
const TAG = /^[a-z][a-z0-9._-]{0,63}$/
/** `graft-tiny`, or with an owner: `meta-llama/Llama-3.2-1B`. */
const BASE = /^[A-Za-z0-9][A-Za-z0-9._-]{0,95}(?:\/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?$/
const WEIGHT = /^-?(?:0|[1-9]\d{0,3})(?:\.\d{1,9})?$/
const TERM = /^(-?[0-9.]+)\(([^()]+)\)$/

/** A sum of more is a mistake; each term costs a bank slot of every row that runs it. */
export const MAX_TERMS = 16
export const MAX_REFERENCE_LENGTH = 2048

const invalid = (what: string, got: unknown): GraftError =>
  new GraftError('ERR_REFERENCE_INVALID', expected('model reference', what, got))

export const isPackageName = (text: unknown): text is string =>
  typeof text === 'string' && PACKAGE.test(text)

export const isBaseName = (text: unknown): text is string =>
  typeof text === 'string' && BASE.test(text)

/** A tag that is also a range (`x`, `v1`) could mean two things, so it is none. */
export const isTag = (text: unknown): text is string =>
  typeof text === 'string' && TAG.test(text) && !isRange(text)

/**
 * `@scope/name`, then `@` and a semver range, a tag or a digest; without it the tag `latest`.
 * @throws ERR_REFERENCE_INVALID
 */
export function parseAdapterReference(text: string): AdapterReference {
  const at = text.indexOf('@', 1)
  const name = at < 0 ? text : text.slice(0, at)
  if (!isPackageName(name))
    throw invalid('@scope/name (lower case), then optionally @range, @tag or @sha256:...', text)
  const selector = at < 0 ? 'latest' : text.slice(at + 1).trim()
  if (selector.startsWith('sha256:')) {
    if (!isDigest(selector)) throw invalid('a digest of 64 hex digits after "sha256:"', text)
    return { package: name, selector: { kind: 'digest', digest: parseDigest(selector) } }
  }
  if (selector !== '' && isRange(selector))
    return { package: name, selector: { kind: 'range', range: selector } }
  if (isTag(selector)) return { package: name, selector: { kind: 'tag', tag: selector } }
  throw invalid('a semver range, a tag or a digest after the name', text)
}

/** `0.70` and `0.7` are one weight. */
function parseWeight(text: string, whole: string): string {
  if (!WEIGHT.test(text)) throw invalid('a decimal weight before each "("', whole)
  const plain = text.includes('.') ? text.replace(/\.?0+$/, '') : text
  if (Number(plain) === 0) throw invalid('a sum of weights other than 0', whole)
  return plain
}

/**
 * A base by name, one adapter, or a weighted sum `0.7(@a/x@^1)+0.3(@b/y@2)`.
 * @throws ERR_REFERENCE_INVALID
 */
export function parseModelReference(text: string): ModelReference {
  if (typeof text !== 'string' || text === '' || text.length > MAX_REFERENCE_LENGTH)
    throw invalid(`1 to ${MAX_REFERENCE_LENGTH} characters`, text)
  if (text.startsWith('@'))
    return { kind: 'adapters', terms: [{ reference: parseAdapterReference(text), weight: '1' }] }
  if (!text.includes('(')) {
    if (isBaseName(text)) return { kind: 'base', name: text }
    throw invalid('a base name, @scope/name@range or a weighted sum', text)
  }
  // A "+" also stands in build metadata, but only inside the parentheses.
  const terms = text.split(/(?<=\)) *\+ */).map((part) => {
    const [, weight, reference] = TERM.exec(part.trim()) ?? []
    if (weight === undefined || reference === undefined)
      throw invalid('weight(@scope/name@range) terms joined by "+"', text)
    return { reference: parseAdapterReference(reference), weight: parseWeight(weight, text) }
  })
  if (terms.length > MAX_TERMS) throw invalid(`at most ${MAX_TERMS} terms`, terms.length)
  return { kind: 'adapters', terms }
}

export function formatAdapterReference({ package: name, selector }: AdapterReference): string {
  if (selector.kind === 'range') return `${name}@${selector.range}`
  if (selector.kind === 'tag') return `${name}@${selector.tag}`
  return `${name}@${selector.digest}`
}

/** The text that parses to the same reference; a single adapter of weight 1 stands without parentheses. */
export function formatReference(reference: ModelReference): string {
  if (reference.kind === 'base') return reference.name
  const [first, ...rest] = reference.terms
  if (first?.weight === '1' && rest.length === 0) return formatAdapterReference(first.reference)
  return reference.terms
    .map(({ weight, reference: r }) => `${weight}(${formatAdapterReference(r)})`)
    .join('+')
}

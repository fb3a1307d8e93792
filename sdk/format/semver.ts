/** Grammar of semver 2.0.0 versions and of npm's ranges: enough to tell what a text is. Choosing versions is the registry's. */

const NUMBER = '(?:0|[1-9]\\d{0,15})'
const PRE = `(?:${NUMBER}|\\d*[A-Za-z-][0-9A-Za-z-]*)`
const SUFFIX = `(?:-${PRE}(?:\\.${PRE})*)?(?:\\+[0-9A-Za-z-]+(?:\\.[0-9A-Za-z-]+)*)?`
const BUILD = '(?:\\+[0-9A-Za-z-]+(?:\\.[0-9A-Za-z-]+)*)?'
const WILD = '[xX*]'
/** A whole version, or one cut short or ended by wildcards: after a wildcard nothing else makes sense. */
const PARTIAL = `v?(?:${NUMBER}\\.${NUMBER}\\.${NUMBER}${SUFFIX}|(?:${[
  `${WILD}(?:\\.${WILD}){0,2}`,
  `${NUMBER}\\.${WILD}(?:\\.${WILD})?`,
  `${NUMBER}\\.${NUMBER}\\.${WILD}`,
  `${NUMBER}(?:\\.${NUMBER})?`,
].join('|')})${BUILD})`

const VERSION = new RegExp(`^${NUMBER}\\.${NUMBER}\\.${NUMBER}${SUFFIX}$`)
const COMPARATOR = new RegExp(`^(?:\\^|~>?|>=|<=|>|<|=)?${PARTIAL}$`)
const HYPHEN = new RegExp(`^${PARTIAL}\\s+-\\s+${PARTIAL}$`)

/** npm's own limit. */
export const MAX_VERSION_LENGTH = 256

/** `1.2.3-rc.1+build`: no `v`, no range, no leading zeros, numbers that fit 2^53. */
export const isVersion = (text: unknown): text is string =>
  typeof text === 'string' &&
  text.length <= MAX_VERSION_LENGTH &&
  VERSION.test(text) &&
  text
    .split(/[-+]/, 1)[0]!
    .split('.')
    .every((n) => Number.isSafeInteger(Number(n)))

/** `^1.2`, `1.x`, `>=1.2.3 <2`, `1 - 2`, `1 || 2`, `*`. */
export const isRange = (text: string): boolean =>
  text.length <= MAX_VERSION_LENGTH &&
  text.split('||').every((part) => {
    const range = part.trim().replace(/(\^|~>?|>=|<=|>|<|=)\s+/g, '$1')
    return HYPHEN.test(range) || range.split(/\s+/).every((c) => COMPARATOR.test(c))
  })

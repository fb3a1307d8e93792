import { SemVer } from 'semver'

/*
 * Versions as text that sorts byte by byte as semver's precedence does (semver 2.0.0 section 11), so that an index finds the
 * newest. A number is its length as a letter, then its digits. After major, minor and patch a release has RELEASE; a
 * pre-release has PRE, which sorts before, and its identifiers: "0" and a number, or "1", the text and an end mark that
 * sorts before every character an identifier may have. Build metadata has no precedence and no place here.
 */
const RELEASE = '~'
const PRE = '-'
const END = '!'
/** Sorts before everything that can follow in a longer key. */
const AFTER = ' '

const number = (value: number | string): string =>
  String.fromCharCode(96 + String(value).length) + value

const triple = ({ major, minor, patch }: SemVer): string =>
  number(major) + number(minor) + number(patch)

/** The key of a version. */
export function sortKey(version: string | SemVer): string {
  const parsed = typeof version === 'string' ? new SemVer(version) : version
  const { prerelease } = parsed
  if (prerelease.length === 0) return triple(parsed) + RELEASE
  const identifiers = prerelease.map((id) =>
    /^\d+$/.test(String(id)) ? `0${number(id)}` : `1${id}${END}`,
  )
  return triple(parsed) + PRE + identifiers.join('')
}

/** The least key that sorts after this version's. */
export const keyAfter = (version: SemVer): string => sortKey(version) + AFTER

/** Keys [from, to) of every pre-release of this version's major, minor and patch. */
export const prereleasesOf = (version: SemVer): { from: string; to: string } => ({
  from: triple(version) + PRE,
  to: triple(version) + RELEASE,
})

export const LEAST_KEY = ''
/** Sorts after every key: none begins with a letter beyond "p". */
export const BEYOND_KEY = 'z'

/** SQL: whether the key in `column` is a release's. */
export const isRelease = (column: string): string => `substr(${column}, -1) = '${RELEASE}'`

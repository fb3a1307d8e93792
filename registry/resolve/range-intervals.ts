import { type Comparator, Range } from 'semver'
import { BEYOND_KEY, keyAfter, LEAST_KEY, prereleasesOf, sortKey } from './version-order.ts'

export interface Span {
  /** Keys of version-order.ts, [from, to). */
  from: string
  to: string
}

/** Releases between two keys, and pre-releases only where the range names one of the same triple (npm's rule). */
export interface Interval extends Span {
  prereleases: Span[]
}

const cut = (a: Span, b: Span): Span => ({
  from: a.from > b.from ? a.from : b.from,
  to: a.to < b.to ? a.to : b.to,
})
const isSome = ({ from, to }: Span): boolean => from < to

/** Comparator.ANY carries no version; @types/semver does not say so. */
const isAny = ({ semver }: Comparator): boolean => semver.version === undefined

function spanOf({ operator, semver }: Comparator): Span {
  const whole = { from: LEAST_KEY, to: BEYOND_KEY }
  if (operator === '>=') return { ...whole, from: sortKey(semver) }
  if (operator === '>') return { ...whole, from: keyAfter(semver) }
  if (operator === '<') return { ...whole, to: sortKey(semver) }
  if (operator === '<=') return { ...whole, to: keyAfter(semver) }
  return { from: sortKey(semver), to: keyAfter(semver) }
}

function intervalOf(comparators: readonly Comparator[]): Interval {
  const bounds = comparators.filter((comparator) => !isAny(comparator))
  const span = bounds.map(spanOf).reduce(cut, { from: LEAST_KEY, to: BEYOND_KEY })
  const prereleases = bounds
    .filter(({ semver }) => semver.prerelease.length > 0)
    .map(({ semver }) => cut(span, prereleasesOf(semver)))
    .filter(isSome)
  return { ...span, prereleases }
}

/**
 * A range (node-semver, strict) as the intervals of keys that it allows, newest first, none overlapping: what `satisfies`
 * says of a version is whether its key lies in one of them.
 */
export function rangeIntervals(range: string): Interval[] {
  const sorted = new Range(range).set
    .map(intervalOf)
    .filter(isSome)
    .sort((a, b) => (a.from < b.from ? -1 : 1))
  const merged: Interval[] = []
  for (const next of sorted) {
    const last = merged.at(-1)
    if (last === undefined || next.from >= last.to) {
      merged.push(next)
      continue
    }
    if (next.to > last.to) last.to = next.to
    last.prereleases.push(...next.prereleases)
  }
  return merged.reverse()
}

import { GraftError } from '@graft/sdk/format/errors.ts'
import { formatAdapterReference } from '@graft/sdk/format/parse-reference.ts'
import type { AdapterReference } from '@graft/sdk/format/reference.ts'
import { prerelease, SemVer, satisfies } from 'semver'
import type { RegistryDeps } from '../deps.ts'
import { withdrawn } from '../packages/states.ts'
import { listTags } from '../packages/tags.ts'
import {
  type Candidate,
  type Clause,
  countAll,
  countIn,
  findByDigest,
  findByTag,
  fitting,
  listIn,
  newestIn,
} from './candidates.ts'
import { type Demands, unfit } from './demands.ts'
import { fillOrder } from './fill-order.ts'
import { type Interval, rangeIntervals } from './range-intervals.ts'
import { BEYOND_KEY, keyAfter, LEAST_KEY } from './version-order.ts'

export interface Choice {
  version: Candidate
  /** Newer ones that the reference allows and that were passed over: the newest MAX_REASONS. */
  skipped: { version: string; reason: string }[]
  /** How many more. */
  skippedMore: number
}

/** Reasons in one answer; the rest is counted. */
export const MAX_REASONS = 20

const EVERYTHING: Interval = {
  from: LEAST_KEY,
  to: BEYOND_KEY,
  prereleases: [{ from: LEAST_KEY, to: BEYOND_KEY }],
}

/**
 * npm's ranges (node-semver, strict): pre-releases only where the range names one of the same triple. Of what the range
 * allows, the newest that fits is chosen, a deprecated one only when nothing else fits, a yanked one never; a tag names one
 * version, which must fit and not be yanked, and a digest names one that must fit.
 * @throws ERR_VERSION_UNKNOWN, ERR_RANGE_UNSATISFIED, ERR_BASE_MISMATCH, ERR_OPERATION_UNSUPPORTED
 */
export async function chooseVersion(
  deps: RegistryDeps,
  reference: AdapterReference,
  demands: Demands,
): Promise<Choice> {
  await fillOrder(deps, reference.package)
  return reference.selector.kind === 'range'
    ? chooseInRange(deps, reference.package, reference.selector.range, demands)
    : chooseNamed(deps, reference, demands)
}

async function chooseNamed(
  deps: RegistryDeps,
  reference: AdapterReference,
  demands: Demands,
): Promise<Choice> {
  const { package: name, selector } = reference
  const ref = formatAdapterReference(reference)
  const version =
    selector.kind === 'digest'
      ? await findByDigest(deps, name, selector.digest)
      : await findByTag(deps, name, selector.kind === 'tag' ? selector.tag : selector.range)
  if (version === null) throw await noSuchVersion(deps, name, ref)
  const { tombstoned, yanked } = version.state
  if (tombstoned || (yanked && selector.kind === 'tag'))
    throw new GraftError(
      'ERR_VERSION_UNKNOWN',
      `${ref} is ${version.version}, which ${withdrawn(version.state)}${tombstoned ? '' : '; name a range, or the digest to use it all the same'}`,
    )
  const reason = unfit(version, demands)
  if (reason)
    throw new GraftError(reason.code, `${ref} is ${version.version}, which ${reason.message}`)
  return { version, skipped: [], skippedMore: 0 }
}

async function noSuchVersion(deps: RegistryDeps, name: string, ref: string): Promise<GraftError> {
  const tags = [...(await listTags(deps, name)).keys()]
  const versions = await listIn(deps, name, EVERYTHING, MAX_REASONS)
  const texts = versions.map((row) => row.version)
  const count = await countAll(deps, name)
  return new GraftError(
    'ERR_VERSION_UNKNOWN',
    `${ref} names no version; ${name} has tags ${tags.join(', ') || 'none'} and versions ${someOf(texts, count)}`,
  )
}

async function chooseInRange(
  deps: RegistryDeps,
  name: string,
  range: string,
  demands: Demands,
): Promise<Choice> {
  const intervals = rangeIntervals(range)
  const fits = await fitting(deps, name, demands)
  const newest = await newestOf(deps, name, intervals, fits)
  if (newest === null) throw await unsatisfied(deps, name, range, intervals, demands)
  const fresh = { ...fits, text: `${fits.text} AND v.deprecated IS NULL` }
  const better = newest.version.state.deprecated
    ? await newestOf(deps, name, intervals, fresh)
    : null
  const { version, at } = better ?? newest
  const rest = { ...intervals[at]!, from: keyAfter(new SemVer(version.version)) }
  const over = [...intervals.slice(0, at), rest]
  const skipped = await passedOver(deps, name, over, demands)
  const all = skipped.length < MAX_REASONS ? skipped.length : await countOf(deps, name, over)
  return { version, skipped, skippedMore: all - skipped.length }
}

/** The newest of all intervals, and which of them it lies in. */
async function newestOf(
  deps: RegistryDeps,
  name: string,
  intervals: readonly Interval[],
  more: Clause,
): Promise<{ version: Candidate; at: number } | null> {
  for (const [at, interval] of intervals.entries()) {
    const version = await newestIn(deps, name, interval, more)
    if (version !== null) return { version, at }
  }
  return null
}

/** The index and `unfit` must agree: a version that was not chosen has a reason. */
function reasonOf(row: Candidate, demands: Demands): string {
  const reason =
    withdrawn(row.state) ??
    unfit(row, demands)?.message ??
    (row.state.deprecated ? `is deprecated: ${row.state.deprecated.message}` : null)
  if (reason === null) throw new Error(`${row.version} (${row.digest}) was passed over and fits`)
  return reason
}

/** The newest of what was passed over, newest first. */
async function passedOver(
  deps: RegistryDeps,
  name: string,
  intervals: readonly Interval[],
  demands: Demands,
): Promise<Choice['skipped']> {
  const skipped: Choice['skipped'] = []
  for (const interval of intervals) {
    if (skipped.length === MAX_REASONS) break
    for (const row of await listIn(deps, name, interval, MAX_REASONS - skipped.length))
      skipped.push({ version: row.version, reason: reasonOf(row, demands) })
  }
  return skipped
}

async function countOf(
  deps: RegistryDeps,
  name: string,
  intervals: readonly Interval[],
): Promise<number> {
  let count = 0
  for (const interval of intervals) count += await countIn(deps, name, interval)
  return count
}

async function unsatisfied(
  deps: RegistryDeps,
  name: string,
  range: string,
  intervals: readonly Interval[],
  demands: Demands,
): Promise<GraftError> {
  const skipped = await passedOver(deps, name, intervals, demands)
  const reasons = skipped.map((s) => `${s.version} ${s.reason}`)
  // Of the newest, those outside the range: enough to fill the list whichever they are.
  for (const { version } of await listIn(deps, name, EVERYTHING, 2 * MAX_REASONS))
    if (reasons.length < MAX_REASONS && !satisfies(version, range))
      reasons.push(
        `${version} ${prerelease(version) ? 'is a pre-release outside' : 'is outside'} the range`,
      )
  const count = await countAll(deps, name)
  return new GraftError(
    'ERR_RANGE_UNSATISFIED',
    `no version of ${name} satisfies ${range || '*'}: ${someOf(reasons, count, '; ')}`,
  )
}

const someOf = (texts: readonly string[], count: number, by = ', '): string => {
  const rest = count - texts.length
  return rest > 0 ? [...texts, `and ${rest} more`].join(by) : texts.join(by) || 'none'
}

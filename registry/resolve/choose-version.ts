import type { Digest } from '@graft/sdk/format/digest.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import type { OperationKind } from '@graft/sdk/format/operations.ts'
import { formatAdapterReference } from '@graft/sdk/format/parse-reference.ts'
import type { AdapterReference } from '@graft/sdk/format/reference.ts'
import { prerelease, satisfies } from 'semver'
import type { VersionRow } from '../packages/versions.ts'

/** What the caller can run; null = no demand. */
export interface Abilities {
  base: Digest | null
  operations: OperationKind[] | null
}

export interface Choice {
  version: VersionRow
  /** Newer ones that the reference allows and these abilities do not. */
  skipped: { version: string; reason: string }[]
}

/** Reasons in one message; the rest is counted. */
const MAX_REASONS = 20

const otherBase = (row: VersionRow, base: Digest): string =>
  `is for base "${row.base.name}" (${row.base.digest}), not ${base}`

const MERGED_ONLY = ' (it runs merged: start a runner with --merge request, auto or <MiB>)'

/** Why this base and this runtime cannot serve it, or null. */
function unfit(row: VersionRow, { base, operations }: Abilities): GraftError | null {
  if (base !== null && row.base.digest !== base)
    return new GraftError('ERR_BASE_MISMATCH', otherBase(row, base))
  const unknown = row.operations.filter((op) => operations !== null && !operations.includes(op))
  if (unknown.length > 0)
    return new GraftError(
      'ERR_OPERATION_UNSUPPORTED',
      `needs ${unknown.join(', ')}, which the runtime does not support${unknown.includes('dense') ? MERGED_ONLY : ''}`,
    )
  return null
}

/**
 * npm's ranges (node-semver, strict): pre-releases only where the range names one of the same triple. Of what the
 * range allows, the newest that fits is chosen; a tag or a digest names one version, which fits or is refused.
 * `versions` newest first.
 * @throws ERR_VERSION_UNKNOWN, ERR_RANGE_UNSATISFIED, ERR_BASE_MISMATCH, ERR_OPERATION_UNSUPPORTED
 */
export function chooseVersion(
  reference: AdapterReference,
  versions: readonly VersionRow[],
  tags: ReadonlyMap<string, Digest>,
  abilities: Abilities,
): Choice {
  const { selector } = reference
  if (selector.kind === 'range')
    return chooseInRange(reference, selector.range, versions, abilities)
  const ref = formatAdapterReference(reference)
  const digest = selector.kind === 'digest' ? selector.digest : tags.get(selector.tag)
  const version = versions.find((row) => row.digest === digest)
  if (!version)
    throw new GraftError(
      'ERR_VERSION_UNKNOWN',
      `${ref} names no version; ${reference.package} has tags ${[...tags.keys()].join(', ') || 'none'} and versions ${someOf(versions.map((row) => row.version))}`,
    )
  const reason = unfit(version, abilities)
  if (reason)
    throw new GraftError(reason.code, `${ref} is ${version.version}, which ${reason.message}`)
  return { version, skipped: [] }
}

function chooseInRange(
  reference: AdapterReference,
  range: string,
  versions: readonly VersionRow[],
  abilities: Abilities,
): Choice {
  const skipped: Choice['skipped'] = []
  const outside: string[] = []
  for (const row of versions) {
    if (!satisfies(row.version, range)) {
      const why = prerelease(row.version) ? 'is a pre-release outside' : 'is outside'
      outside.push(`${row.version} ${why} the range`)
      continue
    }
    const reason = unfit(row, abilities)
    if (reason === null) return { version: row, skipped }
    skipped.push({ version: row.version, reason: reason.message })
  }
  const reasons = [...skipped.map((s) => `${s.version} ${s.reason}`), ...outside]
  throw new GraftError(
    'ERR_RANGE_UNSATISFIED',
    `no version of ${reference.package} satisfies ${range || '*'}: ${someOf(reasons, '; ')}`,
  )
}

function someOf(texts: readonly string[], by = ', '): string {
  const rest = texts.length - MAX_REASONS
  const some = texts.slice(0, MAX_REASONS).join(by)
  return rest > 0 ? `${some}${by}and ${rest} more` : some || 'none'
}

import type { Digest } from '@graft/sdk/format/digest.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import type { OperationKind } from '@graft/sdk/format/operations.ts'
import type { Candidate } from './candidates.ts'
import { allowsLicence } from './licence.ts'

/** What a version must fit, whatever names it; null = no demand. */
export interface Demands {
  /** The very bytes of one base. */
  base: Digest | null
  /** Any base with these tensor names and shapes (BaseIdentity.structure): fine-tunes and other precisions of one model. */
  structure: Digest | null
  /** What the runtime can run. */
  operations: OperationKind[] | null
  /** The largest rank that the runtime takes. */
  maxRank: number | null
  /** SPDX ids that the caller accepts. */
  licences: string[] | null
  /** ISO 8601; only what was published by then. With it `age`, the seconds that the caller asked for. */
  publishedBy: string | null
  age: number | null
}

export const NO_DEMANDS: Demands = {
  base: null,
  structure: null,
  operations: null,
  maxRank: null,
  licences: null,
  publishedBy: null,
  age: null,
}

const MERGED_ONLY = ' (it runs merged: start a runner with --merge request, auto or <MiB>)'
const MS = 1000

const unsupported = (why: string) => new GraftError('ERR_OPERATION_UNSUPPORTED', why)
/** A policy of the caller, not a fact of the adapter. */
const unwanted = (why: string) => new GraftError('ERR_RANGE_UNSATISFIED', why)

function unfitBase(row: Candidate, { base, structure }: Demands): GraftError | null {
  const { name, digest } = row.base
  if (base !== null && digest !== base)
    return new GraftError('ERR_BASE_MISMATCH', `is for base "${name}" (${digest}), not ${base}`)
  if (structure !== null && row.structure !== structure)
    return new GraftError(
      'ERR_BASE_MISMATCH',
      `is for base "${name}" (${digest}), whose structure is ${row.structure}, not ${structure}`,
    )
  return null
}

function unfitRuntime(row: Candidate, { operations, maxRank }: Demands): GraftError | null {
  const unknown = row.operations.filter((op) => operations !== null && !operations.includes(op))
  if (unknown.length > 0)
    return unsupported(
      `needs ${unknown.join(', ')}, which the runtime does not support${unknown.includes('dense') ? MERGED_ONLY : ''}`,
    )
  if (maxRank === null || (row.maxRank !== null && row.maxRank <= maxRank)) return null
  return unsupported(
    row.maxRank === null
      ? `has no recorded rank, and the runtime takes at most ${maxRank}; publish it again`
      : `has rank ${row.maxRank}, and the runtime takes at most ${maxRank}`,
  )
}

function unfitLicence({ license }: Candidate, { licences }: Demands): GraftError | null {
  if (licences === null) return null
  const list = licences.join(', ')
  if (license === null) return unwanted('has no recorded licence; publish it again')
  if (license === '') return unwanted(`states no licence, and only ${list} may be used`)
  const allowed = allowsLicence(license, licences)
  if (allowed) return null
  return unwanted(
    allowed === null
      ? `states the licence "${license}", which is no SPDX expression`
      : `is under ${license}, and only ${list} may be used`,
  )
}

function tooYoung({ publishedAt }: Candidate, { publishedBy, age }: Demands): GraftError | null {
  if (publishedBy === null || publishedAt <= publishedBy) return null
  const ripe = new Date(Date.parse(publishedAt) + (age ?? 0) * MS).toISOString()
  return unwanted(`was published at ${publishedAt} and is ${age} s old only at ${ripe}`)
}

/** Why these demands rule a version out, as the end of a sentence that begins with it; null when it fits. */
export const unfit = (row: Candidate, demands: Demands): GraftError | null =>
  unfitBase(row, demands) ??
  unfitRuntime(row, demands) ??
  unfitLicence(row, demands) ??
  tooYoung(row, demands)

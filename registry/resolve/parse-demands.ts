import { parseDigest } from '@graft/sdk/format/digest.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import { OPERATIONS, type OperationKind } from '@graft/sdk/format/operations.ts'
import type { Demands } from './demands.ts'
import { isLicenceId } from './licence.ts'

/** The query parameters that say what a version must fit. */
export const DEMAND_NAMES = [
  'base',
  'structure',
  'operations',
  'maxRank',
  'licences',
  'minReleaseAge',
] as const
export type DemandTexts = Partial<Record<(typeof DEMAND_NAMES)[number], string>>

/** Seconds; a hundred years, so that the time it means is still a date. */
const MAX_AGE_SECONDS = 100 * 366 * 86_400
const MAX_LICENCES = 64
const MS = 1000

const invalid = (where: string, what: string, got: unknown) =>
  new GraftError('ERR_REQUEST_INVALID', expected(`query: ${where}`, what, got))

/** A comma-separated list. A newer runtime may name operations that this registry never heard of. */
const parseOperations = (text: string): OperationKind[] =>
  text.split(',').filter((name): name is OperationKind => Object.hasOwn(OPERATIONS, name))

function parseCount(where: string, text: string, most: number): number {
  const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN
  if (value <= most) return value
  throw invalid(where, `a whole number of at most ${most}`, text)
}

function parseLicences(text: string): string[] {
  const ids = text.split(',').map((id) => id.trim())
  const strange = ids.find((id) => !isLicenceId(id))
  if (strange !== undefined) throw invalid('licences', 'SPDX ids, joined by ","', strange)
  if (ids.length > MAX_LICENCES) throw invalid('licences', `at most ${MAX_LICENCES}`, ids.length)
  return ids
}

/** @throws ERR_REQUEST_INVALID, ERR_DIGEST_INVALID */
export function parseDemands(texts: DemandTexts, now: Date): Demands {
  const { base, structure, operations, maxRank, licences, minReleaseAge } = texts
  if (base !== undefined && structure !== undefined)
    throw invalid('base', 'given without structure, which asks for less', base)
  const age =
    minReleaseAge === undefined ? null : parseCount('minReleaseAge', minReleaseAge, MAX_AGE_SECONDS)
  return {
    base: base === undefined ? null : parseDigest(base, 'query: base'),
    structure: structure === undefined ? null : parseDigest(structure, 'query: structure'),
    operations: operations === undefined ? null : parseOperations(operations),
    maxRank: maxRank === undefined ? null : parseCount('maxRank', maxRank, Number.MAX_SAFE_INTEGER),
    licences: licences === undefined ? null : parseLicences(licences),
    age,
    publishedBy: age === null ? null : new Date(now.getTime() - age * MS).toISOString(),
  }
}

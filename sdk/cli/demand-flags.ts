import type { ResolveOptions } from '@graft/sdk/client/registry-client.ts'
import { parseDigest } from '@graft/sdk/format/digest.ts'
import type { OperationKind } from '@graft/sdk/format/operations.ts'
import { parseDuration } from './duration.ts'

/** What a version must fit, as the commands that choose one take it. */
export interface DemandFlags {
  base?: string
  structure?: string
  operations?: string
  maxRank?: number
  license?: string[]
  minReleaseAge?: string
}

export const demandsOf = (flags: DemandFlags): Omit<ResolveOptions, 'ref'> => ({
  ...(flags.base ? { base: parseDigest(flags.base, '--base') } : {}),
  ...(flags.structure ? { structure: parseDigest(flags.structure, '--structure') } : {}),
  ...(flags.operations ? { operations: flags.operations.split(',') as OperationKind[] } : {}),
  ...(flags.maxRank === undefined ? {} : { maxRank: flags.maxRank }),
  ...(flags.license ? { licences: flags.license } : {}),
  ...(flags.minReleaseAge
    ? { minReleaseAge: parseDuration(flags.minReleaseAge, '--min-release-age') }
    : {}),
})

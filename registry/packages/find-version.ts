import type { Digest } from '@graft/sdk/format/digest.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import type { VersionState } from '@graft/sdk/protocol/registry-api.ts'
import type { RegistryDeps } from '../deps.ts'
import { first } from '../stores/catalogue.ts'
import { STATE_COLUMNS, type StateColumns, stateOf } from './states.ts'

export interface FoundVersion {
  digest: Digest
  version: string
  state: VersionState
}

/** One exact version of a package that the caller may see. @throws ERR_VERSION_UNKNOWN */
export async function findVersion(
  deps: RegistryDeps,
  name: string,
  version: string,
): Promise<FoundVersion> {
  const row = await first<StateColumns & { digest: Digest; version: string }>(
    deps.catalogue,
    `SELECT v.digest, v.version, ${STATE_COLUMNS} FROM versions v WHERE v.package = ? AND v.version = ?`,
    name,
    version,
  )
  if (row === null) throw new GraftError('ERR_VERSION_UNKNOWN', `${name} has no version ${version}`)
  return { digest: row.digest, version: row.version, state: stateOf(row) }
}

import type { Digest } from '@graft/sdk/format/digest.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import type { OperationKind } from '@graft/sdk/format/operations.ts'
import type { PackageRecord, VersionState, Visibility } from '@graft/sdk/protocol/registry-api.ts'
import { compareBuild } from 'semver'
import type { RegistryDeps } from '../deps.ts'
import type { Reader } from '../identity/authenticate.ts'
import { first } from '../stores/catalogue.ts'
import { READABLE } from './readable.ts'
import { STATE_COLUMNS, type StateColumns, stateMember, stateOf } from './states.ts'
import { listTags } from './tags.ts'

/** A published version, as far as listing needs it. */
interface VersionRow {
  digest: Digest
  version: string
  base: { name: string; digest: Digest }
  operations: OperationKind[]
  family: string
  size: number
  publishedAt: string
  state: VersionState
}

export interface ReadablePackage {
  name: string
  visibility: Visibility
}

/** The same words for a package that does not exist and for one that the caller may not see. */
export const packageUnknown = (name: string): GraftError =>
  new GraftError(
    'ERR_PACKAGE_UNKNOWN',
    `package ${name} is not known here, or it is private and the token cannot read it`,
  )

/** @throws ERR_PACKAGE_UNKNOWN */
export async function findPackage(
  deps: RegistryDeps,
  reader: Reader,
  name: string,
): Promise<ReadablePackage> {
  const row = await first<ReadablePackage>(
    deps.catalogue,
    `SELECT p.name, p.visibility FROM packages p WHERE p.name = ? AND ${READABLE}`,
    name,
    reader.tenant,
  )
  if (row === null) throw packageUnknown(name)
  return row
}

type Row = Omit<VersionRow, 'base' | 'operations' | 'state'> &
  StateColumns &
  Record<'base_name' | 'operations', string> & { base_digest: Digest }

/** Newest first, by semver. */
async function listVersions(deps: RegistryDeps, name: string): Promise<VersionRow[]> {
  const rows = await deps.catalogue.query<Row>(
    `SELECT v.digest, v.version, v.base_name, v.base_digest, v.operations, v.family, v.size,
            v.published_at AS "publishedAt", ${STATE_COLUMNS}
       FROM versions v WHERE v.package = ?`,
    [name],
  )
  return rows
    .map(({ base_name, base_digest, operations, ...row }) => ({
      ...row,
      base: { name: base_name, digest: base_digest },
      operations: JSON.parse(operations) as OperationKind[],
      state: stateOf(row),
    }))
    .sort((a, b) => compareBuild(b.version, a.version))
}

export async function readPackage(
  deps: RegistryDeps,
  reader: Reader,
  name: string,
): Promise<PackageRecord> {
  const found = await findPackage(deps, reader, name)
  const versions = await listVersions(deps, name)
  const tags = await listTags(deps, name)
  const named = [...tags].map(([tag, digest]): [string, string] => [
    tag,
    versions.find((row) => row.digest === digest)!.version,
  ])
  return {
    ...found,
    tags: Object.fromEntries(named),
    versions: versions.map(
      ({ version, digest, base, operations, family, size, publishedAt, state }) => ({
        ...{ version, digest, base, operations, family, size, publishedAt },
        ...stateMember(state),
      }),
    ),
  }
}

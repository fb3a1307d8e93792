import { GraftError } from '@graft/sdk/format/errors.ts'
import { nowIso, type RegistryDeps } from '../deps.ts'
import type { Caller } from '../identity/caller.ts'
import { appendEvent } from '../log/append-event.ts'
import { assertMayPublish } from '../publish/checks.ts'
import { tagRow } from '../publish/commit-rows.ts'
import { eventRow } from './events.ts'
import { findVersion } from './find-version.ts'
import { withdrawn } from './states.ts'
import { findPackage } from './versions.ts'

/** @throws ERR_FORBIDDEN, ERR_PACKAGE_UNKNOWN, ERR_VERSION_UNKNOWN */
export async function moveTag(
  deps: RegistryDeps,
  caller: Caller,
  name: string,
  tag: string,
  version: string,
): Promise<void> {
  assertMayPublish(caller, name)
  const reader = { tenant: caller.tenant, only: null }
  const { visibility } = await findPackage(deps, reader, name)
  const row = await findVersion(deps, name, version)
  const why = withdrawn(row.state)
  if (why !== null)
    throw new GraftError(
      'ERR_VERSION_UNKNOWN',
      `tag "${tag}" cannot name ${name}@${version}, which ${why}`,
    )
  await deps.catalogue.batch([
    tagRow(name, tag, row.digest, nowIso(deps)),
    eventRow(deps, caller, 'tag.move', `${name} ${tag} ${row.digest}`),
    await appendEvent(deps, {
      kind: 'tag.move',
      package: name,
      private: visibility !== 'public',
      facts: { tag, version: row.version, digest: row.digest },
    }),
  ])
}

import { formatAdapterReference } from '@graft/sdk/format/parse-reference.ts'
import type { AdapterReference } from '@graft/sdk/format/reference.ts'
import type { Resolution } from '@graft/sdk/protocol/registry-api.ts'
import type { RegistryDeps } from '../deps.ts'
import type { Reader } from '../identity/authenticate.ts'
import { findPackage, listTags, listVersions } from '../packages/versions.ts'
import { type Abilities, chooseVersion } from './choose-version.ts'

/** @throws ERR_PACKAGE_UNKNOWN and what chooseVersion throws */
export async function resolveReference(
  deps: RegistryDeps,
  reader: Reader,
  reference: AdapterReference,
  abilities: Abilities,
): Promise<Resolution> {
  const { name, visibility } = await findPackage(deps, reader, reference.package)
  const [versions, tags] = await Promise.all([listVersions(deps, name), listTags(deps, name)])
  const { version: row, skipped } = chooseVersion(reference, versions, tags, abilities)
  const { version, digest, base, operations, size } = row
  const ref = formatAdapterReference(reference)
  return { ref, name, version, digest, base, operations, size, visibility, skipped }
}

import { formatAdapterReference } from '@graft/sdk/format/parse-reference.ts'
import type { AdapterReference } from '@graft/sdk/format/reference.ts'
import type { Resolution } from '@graft/sdk/protocol/registry-api.ts'
import type { RegistryDeps } from '../deps.ts'
import type { Reader } from '../identity/authenticate.ts'
import { stateMember } from '../packages/states.ts'
import { findPackage } from '../packages/versions.ts'
import { chooseVersion } from './choose-version.ts'
import type { Demands } from './demands.ts'

/** @throws ERR_PACKAGE_UNKNOWN and what chooseVersion throws */
export async function resolveReference(
  deps: RegistryDeps,
  reader: Reader,
  reference: AdapterReference,
  demands: Demands,
): Promise<Resolution> {
  const { name, visibility } = await findPackage(deps, reader, reference.package)
  const { version: chosen, skipped, skippedMore } = await chooseVersion(deps, reference, demands)
  const { version, digest, base, operations, size, state } = chosen
  const ref = formatAdapterReference(reference)
  return {
    ...{ ref, name, version, digest, base, operations, size, visibility, skipped },
    ...(skippedMore > 0 ? { skippedMore } : {}),
    ...stateMember(state),
    ...(demands.structure === null ? {} : { baseMatch: 'structure' as const }),
  }
}

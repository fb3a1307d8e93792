import { encodeBase64 } from '@graft/sdk/format/base64url.ts'
import type { Digest } from '@graft/sdk/format/digest.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import { proveInclusion } from '@graft/sdk/format/tlog/tree.ts'
import type { LogProof } from '@graft/sdk/protocol/log.ts'
import type { RegistryDeps } from '../deps.ts'
import { first } from '../stores/catalogue.ts'
import { currentCheckpoint } from './checkpoint.ts'
import { withCosignatures } from './cosignatures.ts'
import { findSalt } from './salts.ts'
import { storedNodes } from './stored-tree.ts'

interface Leaf {
  i: number
  entry: string
  subject: string
}

/**
 * That a version's publication is in the log, under the newest checkpoint. Of a private package it holds the salt: ask only
 * for those who may read the version.
 * @throws ERR_VERSION_UNKNOWN while an older registry's versions are still being logged
 */
export async function proveVersion(deps: RegistryDeps, digest: Digest): Promise<LogProof> {
  const checkpoint = await currentCheckpoint(deps)
  const leaf = await first<Leaf>(
    deps.catalogue,
    `SELECT i, entry, subject FROM log_leaves
      WHERE digest = ? AND kind = 'version.publish' AND i < ? ORDER BY i LIMIT 1`,
    digest,
    checkpoint.size,
  )
  if (leaf === null)
    throw new GraftError(
      'ERR_VERSION_UNKNOWN',
      `version ${digest} is not in the log yet; try again`,
    )
  const nodes = storedNodes(deps.catalogue, checkpoint.size)
  const hashes = await proveInclusion(leaf.i, checkpoint.size, nodes)
  // An entry that hides nothing needs no salt, even when its package became private since.
  const hidden = JSON.parse(leaf.entry).package !== leaf.subject
  return {
    index: leaf.i,
    entry: leaf.entry,
    hashes: hashes.map(encodeBase64),
    checkpoint: await withCosignatures(deps, checkpoint),
    ...(hidden ? { salt: (await findSalt(deps, leaf.subject))! } : {}),
  }
}

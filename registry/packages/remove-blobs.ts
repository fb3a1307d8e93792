import type { Digest } from '@graft/sdk/format/digest.ts'
import type { RegistryDeps } from '../deps.ts'
import { first, sql } from '../stores/catalogue.ts'

/** Blobs of one pass; the sweep finds what is left. */
const MAX_BLOBS = 1000

/**
 * Removes from the store what tombstones left there, unless something else stands on the same bytes: another version, or
 * a base. What an open upload has staged waits for the next pass. Cut short anywhere, the next pass goes on.
 */
export async function removeBlobs(deps: RegistryDeps): Promise<void> {
  const waiting = await deps.catalogue.query<{ blob: Digest }>(
    `SELECT blob FROM blob_removals LIMIT ${MAX_BLOBS}`,
  )
  for (const { blob } of waiting) {
    const use = await first<{ kept: number; open: number }>(
      deps.catalogue,
      `SELECT EXISTS (SELECT 1 FROM version_blobs WHERE blob = ?)
           OR EXISTS (SELECT 1 FROM bases WHERE tensors = ?) AS kept,
         EXISTS (SELECT 1 FROM upload_blobs b JOIN uploads u ON u.id = b.upload
           WHERE b.digest = ? AND b.state = 'staged' AND u.state IN ('uploading', 'verifying')) AS open`,
      blob,
      blob,
      blob,
    )
    if (use!.open === 1) continue
    if (use!.kept === 0) await deps.blobs.delete(blob)
    await deps.catalogue.batch([sql('DELETE FROM blob_removals WHERE blob = ?', blob)])
  }
}

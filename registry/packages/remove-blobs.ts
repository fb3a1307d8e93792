import type { Digest } from '@graft/sdk/format/digest.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import { nowIso, type RegistryDeps } from '../deps.ts'
import { sql } from '../stores/catalogue.ts'

/** Blobs of one pass; the sweep finds what is left. */
const MAX_BLOBS = 1000

/** Seconds after which a removal that was begun and not ended was cut short, not slow. */
const CUT_SHORT_SECONDS = 600

/** Why a blob is not to be removed now: a version or a base stands on it, or an open upload has sent it. */
const KEPT = `EXISTS (SELECT 1 FROM version_blobs v WHERE v.blob = blob_removals.blob)
  OR EXISTS (SELECT 1 FROM bases WHERE tensors = blob_removals.blob)`
const OPEN = `EXISTS (SELECT 1 FROM upload_blobs b JOIN uploads u ON u.id = b.upload
  WHERE b.digest = blob_removals.blob AND b.state != 'readable' AND u.state IN ('uploading', 'verifying'))`

/**
 * Removes from the store what tombstones and ended uploads left there, unless something else stands on the same bytes:
 * another version, or a base. What an open upload sends waits for the next pass. Cut short anywhere, the next pass goes on.
 */
export async function removeBlobs(deps: RegistryDeps): Promise<void> {
  await deps.catalogue.batch([sql(`DELETE FROM blob_removals WHERE ${KEPT}`)])
  const waiting = await deps.catalogue.query<{ blob: Digest }>(
    `SELECT blob FROM blob_removals WHERE removing_at IS NOT NULL OR NOT ${OPEN} LIMIT ${MAX_BLOBS}`,
  )
  for (const { blob } of waiting) {
    // Marked in the same moment as it is found unused: a publish that comes later sees the mark.
    const [marked] = await deps.catalogue.batch([
      sql(
        `UPDATE blob_removals SET removing_at = ?
          WHERE blob = ? AND (removing_at IS NOT NULL OR NOT (${KEPT} OR ${OPEN}))`,
        nowIso(deps),
        blob,
      ),
    ])
    if (marked === 0) continue
    await deps.blobs.delete(blob)
    await deps.catalogue.batch([sql('DELETE FROM blob_removals WHERE blob = ?', blob)])
  }
}

/**
 * Before blobs are promoted: takes them off the list of removals.
 * @throws ERR_OVERLOADED while one of them is just being removed; it may be promoted afterwards
 */
export async function keepFromRemoval(
  deps: RegistryDeps,
  digests: readonly Digest[],
): Promise<void> {
  const listed = await deps.catalogue.query<{ blob: Digest }>(
    `SELECT blob FROM blob_removals WHERE blob IN (SELECT value FROM json_each(?))`,
    [JSON.stringify(digests)],
  )
  const cutShort = new Date(deps.clock().getTime() - CUT_SHORT_SECONDS * 1000).toISOString()
  for (const { blob } of listed) {
    const [kept] = await deps.catalogue.batch([
      sql(
        'DELETE FROM blob_removals WHERE blob = ? AND (removing_at IS NULL OR removing_at < ?)',
        blob,
        cutShort,
      ),
    ])
    if (kept === 1) continue
    throw new GraftError(
      'ERR_OVERLOADED',
      `blob ${blob} is just being removed from the store; publish again in a minute`,
      { retryAfter: 60 },
    )
  }
}

import type { RegistryDeps } from '../deps.ts'
import { removeBlobs } from '../packages/remove-blobs.ts'
import { sql } from '../stores/catalogue.ts'
import { endedRow } from './abort.ts'

/** Uploads begun before it had their time. */
export const expiredBefore = (deps: RegistryDeps): Date =>
  new Date(deps.clock().getTime() - deps.limits.uploadSeconds * 1000)

/**
 * Ends uploads begun before `olderThan` that never became a version, and frees what they staged or promoted; then
 * whatever else a crash left in staging, and what tombstones left in the store. Call it now and then; a sweep cut short
 * is finished by the next. @returns how many uploads it ended
 */
export async function sweepStaging(deps: RegistryDeps, olderThan: Date): Promise<number> {
  const rows = await deps.catalogue.query<{ id: string }>(
    `SELECT id FROM uploads WHERE state != 'published' AND created_at < ? LIMIT 1000`,
    [olderThan.toISOString()],
  )
  for (const { id } of rows) {
    await deps.catalogue.batch([endedRow(id, `publish "${id}" expired; start it again`)])
    await deps.blobs.discard(id)
    await deps.catalogue.batch([
      // What it promoted before it ended; removeBlobs keeps those that something else stands on.
      sql(
        `INSERT INTO blob_removals (blob, asked_at)
         SELECT b.digest, ? FROM upload_blobs b JOIN uploads u ON u.id = b.upload
          WHERE b.upload = ? AND b.state = 'staged' AND u.state = 'failed'
         ON CONFLICT (blob) DO NOTHING`,
        deps.clock().toISOString(),
        id,
      ),
      sql(
        `DELETE FROM upload_blobs WHERE upload IN (SELECT id FROM uploads WHERE id = ? AND state = 'failed')`,
        id,
      ),
      sql(`DELETE FROM uploads WHERE id = ? AND state = 'failed'`, id),
    ])
  }
  await sweepLeftovers(deps)
  await deps.blobs.sweep?.(olderThan)
  await removeBlobs(deps)
  return rows.length
}

/** An upload's row comes before its bytes: staging without an open upload was left by a crash, or came too late. */
async function sweepLeftovers(deps: RegistryDeps): Promise<void> {
  for (const id of await deps.blobs.listStaging()) {
    const open = await deps.catalogue.query(
      `SELECT id FROM uploads WHERE id = ? AND state IN ('uploading', 'verifying')`,
      [id],
    )
    if (open.length === 0) await deps.blobs.discard(id)
  }
}

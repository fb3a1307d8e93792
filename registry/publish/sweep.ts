import type { RegistryDeps } from '../deps.ts'
import { removeBlobs } from '../packages/remove-blobs.ts'
import { sql } from '../stores/catalogue.ts'

/**
 * Ends uploads begun before `olderThan` that never became a version, and frees what they staged.
 * What tombstones left in the store goes too. Call it now and then; a sweep cut short is finished by the next.
 * @returns how many it ended
 */
export async function sweepStaging(deps: RegistryDeps, olderThan: Date): Promise<number> {
  const rows = await deps.catalogue.query<{ id: string }>(
    `SELECT id FROM uploads WHERE state != 'published' AND created_at < ? LIMIT 1000`,
    [olderThan.toISOString()],
  )
  for (const { id } of rows) {
    await deps.blobs.discard(id)
    await deps.catalogue.batch([
      sql('DELETE FROM upload_blobs WHERE upload = ?', id),
      sql(`DELETE FROM uploads WHERE id = ? AND state != 'published'`, id),
    ])
  }
  await removeBlobs(deps)
  return rows.length
}

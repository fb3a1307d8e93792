import { setImmediate as breathe } from 'node:timers/promises'
import { type Digest, isDigest } from '@graft/sdk/format/digest.ts'
import type { DiskCache } from './disk-cache.ts'
import { knownManifest } from './version-record.ts'

/**
 * Adds the adapters of earlier runs to `found`, so that the edge sees a restarted runner's disk. A hint and no more:
 * signatures and bytes are verified when an adapter is used.
 */
export async function listDisk(
  disk: DiskCache,
  found: Map<Digest, { digest: Digest; size: number }>,
): Promise<void> {
  for (const name of await disk.notes('records').catch(() => [])) {
    if (!isDigest(name)) continue
    const record = await disk.note('records', name).catch(() => null)
    const file = record && knownManifest(record, name)?.files.find((f) => f.role === 'canonical')
    if (file) found.set(name, { digest: file.sha256, size: file.size })
    // A disk of thousands must not hold up the first requests.
    await breathe()
  }
}

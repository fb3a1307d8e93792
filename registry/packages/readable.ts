import type { Digest } from '@graft/sdk/format/digest.ts'
import type { RegistryDeps } from '../deps.ts'
import type { Reader } from '../identity/authenticate.ts'
import { first } from '../stores/catalogue.ts'

/** Of a package `p`: anybody's, or the reader's own. Takes the tenant as its one parameter; NULL matches nobody. */
export const READABLE = `(p.visibility = 'public' OR p.org = ?)`

/** Below D1's 100 bound values a statement. */
const CHUNK = 90

/** Which of these blobs the tenant may already read; of the others nothing is told, not even that they exist. */
export async function readableBlobs(
  deps: RegistryDeps,
  tenant: string,
  digests: readonly Digest[],
): Promise<Set<Digest>> {
  const found = new Set<Digest>()
  for (let at = 0; at < digests.length; at += CHUNK) {
    const some = digests.slice(at, at + CHUNK)
    const rows = await deps.catalogue.query<{ blob: Digest }>(
      `SELECT DISTINCT b.blob FROM version_blobs b JOIN versions v ON v.digest = b.version
         JOIN packages p ON p.name = v.package
        WHERE ${READABLE} AND b.blob IN (${some.map(() => '?').join(', ')})`,
      [tenant, ...some],
    )
    for (const row of rows) found.add(row.blob)
  }
  return found
}

export interface ReadableBlob {
  size: number
  isPublic: boolean
}

/** A blob of some manifest that the reader may read; null for all others alike. */
export async function findReadableBlob(
  deps: RegistryDeps,
  reader: Reader,
  digest: Digest,
): Promise<ReadableBlob | null> {
  const row = await first<{ size: number; open: number }>(
    deps.catalogue,
    `SELECT b.size, max(p.visibility = 'public') AS open
       FROM version_blobs b JOIN versions v ON v.digest = b.version
       JOIN packages p ON p.name = v.package
      WHERE b.blob = ? AND ${READABLE} AND (? IS NULL OR v.digest = ?)
      GROUP BY b.blob`,
    digest,
    reader.tenant,
    reader.only,
    reader.only,
  )
  return row && { size: row.size, isPublic: row.open === 1 }
}

import type { Digest } from '@graft/sdk/format/digest.ts'
import type { PackageSummary, Visibility } from '@graft/sdk/protocol/registry-api.ts'
import type { RegistryDeps } from '../deps.ts'
import type { Reader } from '../identity/authenticate.ts'
import { READABLE } from './readable.ts'

/** Enough for a page; a narrower question finds the rest. */
const MAX_RESULTS = 200

interface Row {
  name: string
  visibility: Visibility
  description: string
  version: string
  tagged: number
  base_name: string
  base_digest: Digest
}

/** A text of LIKE that finds `word` itself. */
const like = (word: string): string => `%${word.replace(/[\\%_]/g, '\\$&')}%`

/** Packages the reader may see, by name; `words` is looked for in names, descriptions and keywords. */
export async function searchPackages(
  deps: RegistryDeps,
  reader: Reader,
  { org, words }: { org: string | null; words: string | null },
): Promise<PackageSummary[]> {
  const pattern = words === null ? null : like(words)
  // One row a package: what "latest" names, or else what was published last.
  const rows = await deps.catalogue.query<Row>(
    `SELECT p.name, p.visibility, v.description, v.version, v.base_name, v.base_digest,
            t.tag IS NOT NULL AS tagged
       FROM packages p
       LEFT JOIN tags t ON t.package = p.name AND t.tag = 'latest'
       JOIN versions v ON v.digest = coalesce(t.version,
         (SELECT digest FROM versions w WHERE w.package = p.name
           ORDER BY w.tombstoned IS NOT NULL, w.yanked IS NOT NULL, w.published_at DESC, w.digest
           LIMIT 1))
      WHERE ${READABLE} AND (? IS NULL OR p.org = ?)
        AND (? IS NULL OR p.name LIKE ? ESCAPE '\\' OR v.description LIKE ? ESCAPE '\\'
             OR v.keywords LIKE ? ESCAPE '\\')
      ORDER BY p.name LIMIT ${MAX_RESULTS}`,
    [reader.tenant, org, org, pattern, pattern, pattern, pattern],
  )
  return rows.map((row) => ({
    name: row.name,
    description: row.description,
    visibility: row.visibility,
    latest: row.tagged === 1 ? row.version : null,
    base: { name: row.base_name, digest: row.base_digest },
  }))
}

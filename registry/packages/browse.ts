import type { Digest } from '@graft/sdk/format/digest.ts'
import type { Visibility } from '@graft/sdk/protocol/registry-api.ts'
import type { RegistryDeps } from '../deps.ts'
import type { Reader } from '../identity/authenticate.ts'
import { READABLE } from './readable.ts'

/** Words of one question; a longer one is cut, since each costs a scan. */
const MAX_WORDS = 8

export type BrowseOrder = 'name' | 'updated'

/** What to list; null asks for nothing of that kind. */
export interface Question {
  org: string | null
  /** Each must stand in the name, the description or the keywords. ASCII case does not count. */
  words: string | null
  /** Some version of the package is for this base. */
  base: Digest | null
  /** Method of the listed version: `lora`. */
  family: string | null
  keyword: string | null
  order: BrowseOrder
  /** Where the page before ended. */
  after: { publishedAt: string; name: string } | null
  limit: number
}

export const EVERYTHING: Question = {
  ...{ org: null, words: null, base: null, family: null, keyword: null },
  ...{ order: 'updated', after: null, limit: 20 },
}

/** A package by one version: what `latest` names, or else the last published that may still be used. */
export interface PackageRow {
  name: string
  visibility: Visibility
  description: string
  version: string
  /** `latest` names the version. */
  tagged: number
  baseName: string
  baseDigest: Digest
  family: string
  /** Bytes of adapter.safetensors. */
  size: number
  keywords: string
  publishedAt: string
}

// D1 refuses patterns of LIKE above 50 bytes, so words are found with instr.
const HAS_WORD = `instr(lower(p.name || char(10) || v.description || char(10) || v.keywords), lower(?)) > 0`

/** Packages that the reader may see. Newest first, or by name. */
export function browsePackages(
  deps: RegistryDeps,
  reader: Reader,
  { org, words, base, family, keyword, order, after, limit }: Question,
): Promise<PackageRow[]> {
  const terms = (words ?? '').split(/\s+/).filter(Boolean).slice(0, MAX_WORDS)
  const quoted = keyword === null ? null : JSON.stringify(keyword)
  const [start, sort] =
    order === 'name'
      ? ['p.name > ?2', 'p.name']
      : [
          '(v.published_at < ?1 OR (v.published_at = ?1 AND p.name > ?2))',
          'v.published_at DESC, p.name',
        ]
  const from = after ? start.replaceAll('?1', '?').replaceAll('?2', '?') : 'TRUE'
  const place = !after
    ? []
    : order === 'name'
      ? [after.name]
      : [after.publishedAt, after.publishedAt, after.name]
  return deps.catalogue.query<PackageRow>(
    `SELECT p.name, p.visibility, v.description, v.version, v.family, v.size, v.keywords,
            v.base_name AS "baseName", v.base_digest AS "baseDigest",
            v.published_at AS "publishedAt", t.tag IS NOT NULL AS tagged
       FROM packages p
       LEFT JOIN tags t ON t.package = p.name AND t.tag = 'latest'
       JOIN versions v ON v.digest = coalesce(t.version,
         (SELECT digest FROM versions w WHERE w.package = p.name
           ORDER BY w.tombstoned IS NOT NULL, w.yanked IS NOT NULL, w.published_at DESC, w.digest
           LIMIT 1))
      WHERE ${READABLE} AND (? IS NULL OR p.org = ?)
        AND (? IS NULL OR v.family = ?)
        AND (? IS NULL OR instr(lower(v.keywords), lower(?)) > 0)
        AND (? IS NULL OR EXISTS (SELECT 1 FROM versions b
              WHERE b.package = p.name AND b.base_digest = ?))
        ${terms.map(() => `AND ${HAS_WORD}`).join(' ')}
        AND ${from}
      ORDER BY ${sort} LIMIT ?`,
    [
      ...[reader.tenant, org, org, family, family, quoted, quoted, base, base],
      ...terms,
      ...place,
      limit,
    ],
  )
}

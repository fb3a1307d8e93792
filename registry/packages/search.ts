import type { PackageSummary } from '@graft/sdk/protocol/registry-api.ts'
import type { RegistryDeps } from '../deps.ts'
import type { Reader } from '../identity/authenticate.ts'
import { browsePackages, EVERYTHING } from './browse.ts'

/** Enough for a page; a narrower question finds the rest. */
const MAX_RESULTS = 200

/** Packages the reader may see, by name; each of `words` is looked for in names, descriptions and keywords. */
export async function searchPackages(
  deps: RegistryDeps,
  reader: Reader,
  { org, words }: { org: string | null; words: string | null },
): Promise<PackageSummary[]> {
  const question = { ...EVERYTHING, org, words, order: 'name' as const, limit: MAX_RESULTS }
  const rows = await browsePackages(deps, reader, question)
  return rows.map((row) => ({
    name: row.name,
    description: row.description,
    visibility: row.visibility,
    latest: row.tagged === 1 ? row.version : null,
    base: { name: row.baseName, digest: row.baseDigest },
  }))
}

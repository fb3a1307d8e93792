import type { Digest } from '@graft/sdk/format/digest.ts'
import type { RegistryDeps } from '../deps.ts'

/** Digest by tag. */
export async function listTags(deps: RegistryDeps, name: string): Promise<Map<string, Digest>> {
  const rows = await deps.catalogue.query<{ tag: string; version: Digest }>(
    'SELECT tag, version FROM tags WHERE package = ? ORDER BY tag',
    [name],
  )
  return new Map(rows.map((row) => [row.tag, row.version]))
}

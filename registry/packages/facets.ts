import type { Digest } from '@graft/sdk/format/digest.ts'
import type { BaseIdentity } from '@graft/sdk/format/manifest.ts'
import type { RegistryDeps } from '../deps.ts'
import type { Reader } from '../identity/authenticate.ts'
import { first } from '../stores/catalogue.ts'
import { READABLE } from './readable.ts'

/** As many as a list to choose from stays readable with. */
const MAX_CHOICES = 100

export interface FamilyCount {
  family: string
  packages: number
}

export interface BaseCount {
  digest: Digest
  name: string
  packages: number
}

/** Methods of what the reader may see, the most used first. */
export const countFamilies = (deps: RegistryDeps, reader: Reader): Promise<FamilyCount[]> =>
  deps.catalogue.query<FamilyCount>(
    `SELECT v.family, count(DISTINCT p.name) AS packages
       FROM versions v JOIN packages p ON p.name = v.package WHERE ${READABLE}
      GROUP BY v.family ORDER BY 2 DESC, 1 LIMIT ${MAX_CHOICES}`,
    [reader.tenant],
  )

/** Bases of what the reader may see, the most used first. */
export const countBases = (deps: RegistryDeps, reader: Reader): Promise<BaseCount[]> =>
  deps.catalogue.query<BaseCount>(
    `SELECT v.base_digest AS digest, v.base_name AS name, count(DISTINCT p.name) AS packages
       FROM versions v JOIN packages p ON p.name = v.package WHERE ${READABLE}
      GROUP BY v.base_digest ORDER BY 3 DESC, 2, 1 LIMIT ${MAX_CHOICES}`,
    [reader.tenant],
  )

/** A registered base without its tensors; null when it is not registered. */
export async function findBaseIdentity(
  deps: RegistryDeps,
  digest: Digest,
): Promise<BaseIdentity | null> {
  const row = await first<{ identity: string }>(
    deps.catalogue,
    'SELECT identity FROM bases WHERE digest = ?',
    digest,
  )
  return row && (JSON.parse(row.identity) as BaseIdentity)
}

/** Other registered bases whose tensors have the same names and shapes: an adapter's sites exist in them too. */
export const listSameStructure = (
  deps: RegistryDeps,
  { digest, structure }: { digest: Digest; structure: Digest },
): Promise<{ digest: Digest; name: string }[]> =>
  deps.catalogue.query(
    `SELECT digest, name FROM bases WHERE structure = ? AND digest <> ?
      ORDER BY name, digest LIMIT ${MAX_CHOICES}`,
    [structure, digest],
  )

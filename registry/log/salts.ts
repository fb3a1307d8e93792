import { encodeBase64 } from '@graft/sdk/format/base64url.ts'
import type { RegistryDeps } from '../deps.ts'
import { first, sql } from '../stores/catalogue.ts'

const SALT_BYTES = 32

/** Base64; null for a package that never had anything to hide. */
export const findSalt = async (deps: RegistryDeps, name: string): Promise<string | null> =>
  (
    await first<{ salt: string }>(
      deps.catalogue,
      'SELECT salt FROM log_salts WHERE package = ?',
      name,
    )
  )?.salt ?? null

/**
 * One salt a package, so that its owners find all its events in the log. It is committed before it is used: of two that make
 * one at once, both go on with the same.
 */
export async function findOrMakeSalt(deps: RegistryDeps, name: string): Promise<string> {
  const known = await findSalt(deps, name)
  if (known !== null) return known
  const salt = encodeBase64(crypto.getRandomValues(new Uint8Array(SALT_BYTES)))
  await deps.catalogue.batch([
    sql(
      'INSERT INTO log_salts (package, salt) VALUES (?, ?) ON CONFLICT (package) DO NOTHING',
      name,
      salt,
    ),
  ])
  return (await findSalt(deps, name))!
}

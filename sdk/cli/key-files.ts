import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { GraftError } from '@graft/sdk/format/errors.ts'
import { exportSigningKey, importSigningKey, type SigningKey } from '@graft/sdk/format/jws.ts'
import { readRequired, writeFileAtomically } from './files.ts'

/** Private keys, `keys/<kid>.json` of the home folder, mode 0600, as private JWKs. */
export const keyPath = (home: string, kid: string): string => join(home, 'keys', `${kid}.json`)

export const saveKey = async (home: string, key: SigningKey): Promise<void> =>
  writeFileAtomically(
    keyPath(home, key.kid),
    `${JSON.stringify(await exportSigningKey(key))}\n`,
    0o600,
  )

/** Ids of the keys on this machine. */
export const localKeys = async (home: string): Promise<string[]> =>
  (await readdir(join(home, 'keys')).catch(() => []))
    .filter((name) => name.endsWith('.json'))
    .map((name) => name.slice(0, -'.json'.length))
    .sort()

async function readKey(path: string): Promise<SigningKey> {
  const text = new TextDecoder().decode(await readRequired(path))
  let jwk: JsonWebKey
  try {
    jwk = JSON.parse(text) as JsonWebKey
  } catch {
    // Not even a word of a key file is repeated in a message.
    throw new GraftError('ERR_KEY_UNKNOWN', `${path} must be a private JWK in JSON; restore it`)
  }
  return importSigningKey(jwk)
}

/**
 * The key to sign with: a file, a key id (or the beginning of one), or the only one there is.
 * @throws ERR_KEY_UNKNOWN saying how to get or name one
 */
export async function openKey(home: string, wanted: string | undefined): Promise<SigningKey> {
  if (wanted && (wanted.includes('/') || wanted.endsWith('.json'))) return readKey(wanted)
  const kids = await localKeys(home)
  const found = wanted ? kids.filter((kid) => kid.startsWith(wanted)) : kids
  if (found.length === 1) return readKey(keyPath(home, found[0]!))
  const what =
    kids.length === 0
      ? `there is no signing key in ${join(home, 'keys')}: make one with graft keys generate`
      : `${found.length} of the ${kids.length} keys in ${join(home, 'keys')} fit: name one with --key (graft keys list)`
  throw new GraftError('ERR_KEY_UNKNOWN', what)
}

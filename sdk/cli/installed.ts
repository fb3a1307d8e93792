import { join } from 'node:path'
import type { LockedAdapter } from '@graft/sdk/client/lock.ts'
import { sha256 } from '@graft/sdk/format/digest.ts'
import { isGraftError } from '@graft/sdk/format/errors.ts'
import { parseManifest } from '@graft/sdk/format/parse-manifest.ts'
import { PULLED } from './commands/pull.ts'
import { readIfThere } from './files.ts'
import { hashFile } from './node-hash.ts'

/** `adapters/@acme/sql`. */
export const folderOf = (root: string, name: string): string => join(root, ...name.split('/'))

/**
 * What a folder holds of what the lock names. `altered`: it was this version and its bytes were changed since. `other`:
 * another version, or something else.
 */
export type Installed = 'same' | 'absent' | 'altered' | 'other'

export async function installedIn(folder: string, locked: LockedAdapter): Promise<Installed> {
  const bytes = await readIfThere(join(folder, PULLED.manifest))
  if (bytes === null) return 'absent'
  if ((await sha256(bytes)) !== locked.digest) return isThis(bytes, locked) ? 'altered' : 'other'
  if ((await readIfThere(join(folder, PULLED.version))) === null) return 'altered'
  const file = parseManifest(bytes).files.find(({ role }) => role === 'canonical')
  const digest = await hashFile(join(folder, PULLED.weights), () => {}).catch(() => null)
  return digest === file?.sha256 ? 'same' : 'altered'
}

/** A manifest that says it is the locked version, and is not. */
function isThis(bytes: Uint8Array, { version }: LockedAdapter): boolean {
  try {
    return parseManifest(bytes).version === version
  } catch (e) {
    if (isGraftError(e)) return false
    throw e
  }
}

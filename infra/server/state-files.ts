import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { GraftError } from '@graft/sdk/format/errors.ts'
import {
  exportSigningKey,
  generateSigningKey,
  importSigningKey,
  type SigningKey,
} from '@graft/sdk/format/jws.ts'
import { writeAtomically } from '../dev/secrets.ts'
import type { ServerOptions } from './options.ts'

const readOrNull = (path: string): Promise<string | null> =>
  readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null
    throw error
  })

/** The key that edge and runners know each other by; the first start makes it, mode 0600. */
export async function openFleetKey(
  options: Pick<ServerOptions, 'fleetKey' | 'fleetKeyFile'>,
): Promise<SigningKey> {
  const { fleetKey, fleetKeyFile } = options
  const where = fleetKey === null ? fleetKeyFile : 'GRAFT_FLEET_KEY'
  const text = fleetKey ?? (await readOrNull(fleetKeyFile))
  if (text === null) {
    const key = await generateSigningKey()
    await writeAtomically(fleetKeyFile, JSON.stringify(await exportSigningKey(key)))
    return key
  }
  try {
    return await importSigningKey(JSON.parse(text) as JsonWebKey)
  } catch {
    // The cause would quote the key.
    throw new GraftError(
      'ERR_STATE_DAMAGED',
      `${where} must hold the fleet key, a private JWK as JSON; restore it, or remove it to make a new one for all runners`,
    )
  }
}

/** @returns the code, and whether it was made now: it is shown once */
export async function openSetupCode(
  options: Pick<ServerOptions, 'setupCode' | 'stateDir'>,
): Promise<{ code: string; made: boolean }> {
  if (options.setupCode !== null) return { code: options.setupCode, made: false }
  const path = join(options.stateDir, 'setup-code')
  const kept = (await readOrNull(path))?.trim()
  if (kept) return { code: kept, made: false }
  const code = crypto.randomUUID()
  await writeAtomically(path, `${code}\n`)
  return { code, made: true }
}

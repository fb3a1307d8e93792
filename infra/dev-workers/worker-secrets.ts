import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { GraftError } from '@graft/sdk/format/errors.ts'
import { exportSigningKey, generateSigningKey } from '@graft/sdk/format/jws.ts'
import { type Secrets, writeAtomically } from '../dev/secrets.ts'

/** Keys that only the Worker holds; kept, so that tokens and receipts outlive a restart. */
interface WorkerKeys {
  issuer: JsonWebKey
  log: JsonWebKey
  receipt: JsonWebKey
}

async function openKeys(path: string): Promise<WorkerKeys> {
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null
    throw error
  })
  if (text === null) {
    const make = async () => exportSigningKey(await generateSigningKey())
    const keys: WorkerKeys = { issuer: await make(), log: await make(), receipt: await make() }
    await writeAtomically(path, JSON.stringify(keys))
    return keys
  }
  try {
    const keys = JSON.parse(text) as WorkerKeys
    if (keys.issuer && keys.log && keys.receipt) return keys
    if (keys.issuer && keys.receipt) {
      // Of a version that had no log yet.
      const grown = { ...keys, log: await exportSigningKey(await generateSigningKey()) }
      await writeAtomically(path, JSON.stringify(grown))
      return grown
    }
  } catch {
    // told below, with the way out
  }
  throw new GraftError(
    'ERR_STATE_DAMAGED',
    `${path} must hold the Worker's keys as JSON, and does not: restore it from a backup, or remove its folder to start anew`,
  )
}

/**
 * Writes what `wrangler secret put` would hold into a file that only its owner may read.
 * @returns the file, for wrangler's --env-file
 */
export async function writeWorkerSecrets(stateDir: string, secrets: Secrets): Promise<string> {
  const { issuer, log, receipt } = await openKeys(join(stateDir, 'worker-keys.json'))
  const values = {
    ISSUER_KEY: JSON.stringify(issuer),
    LOG_KEY: JSON.stringify(log),
    RECEIPT_KEY: JSON.stringify(receipt),
    FLEET_KEY: JSON.stringify(secrets.fleetKey),
    SETUP_CODE: secrets.setupCode,
  }
  // A JWK's JSON has no apostrophe, so single quotes need no escapes.
  const lines = Object.entries(values).map(([name, value]) => `${name}='${value}'\n`)
  const path = join(stateDir, 'worker.env')
  await writeAtomically(path, lines.join(''))
  return path
}

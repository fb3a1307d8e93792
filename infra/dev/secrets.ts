import { mkdir, open, readFile, rename } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { GraftError } from '@graft/sdk/format/errors.ts'
import { exportSigningKey, generateSigningKey } from '@graft/sdk/format/jws.ts'

/** What the local stack must remember between starts; mode 0600. */
export interface Secrets {
  setupCode: string
  /** Private JWK with which edge and runner know each other. */
  fleetKey: JsonWebKey
  /** Private JWK with which the samples are signed. */
  publisherKey: JsonWebKey
  /** Tokens by organisation; filled by the first start. */
  tokens: Record<string, string>
}

export async function writeAtomically(path: string, text: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true })
  const temporary = `${path}.${process.pid}.tmp`
  const file = await open(temporary, 'w', 0o600)
  try {
    await file.writeFile(text)
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(temporary, path)
}

export const secretsPath = (stateDir: string): string => join(stateDir, 'secrets.json')

export const saveSecrets = (stateDir: string, secrets: Secrets): Promise<void> =>
  writeAtomically(secretsPath(stateDir), `${JSON.stringify(secrets, null, 2)}\n`)

export async function openSecrets(stateDir: string): Promise<Secrets> {
  const path = secretsPath(stateDir)
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null
    throw error
  })
  if (text === null) {
    const secrets: Secrets = {
      setupCode: crypto.randomUUID(),
      fleetKey: await exportSigningKey(await generateSigningKey()),
      publisherKey: await exportSigningKey(await generateSigningKey()),
      tokens: {},
    }
    await saveSecrets(stateDir, secrets)
    return secrets
  }
  try {
    const secrets = JSON.parse(text) as Secrets
    if (secrets.setupCode && secrets.fleetKey && secrets.publisherKey && secrets.tokens)
      return secrets
  } catch {
    // told below, with the way out
  }
  throw new GraftError(
    'ERR_STATE_DAMAGED',
    `${path} must hold the stack's secrets as JSON, and does not: restore it from a backup, or remove the folder ${stateDir} to start anew`,
  )
}

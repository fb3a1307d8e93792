import { randomUUID } from 'node:crypto'
import { link, mkdir, open, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { GraftError } from '@graft/sdk/format/errors.ts'
import {
  exportSigningKey,
  generateSigningKey,
  importSigningKey,
  type SigningKey,
} from '@graft/sdk/format/jws.ts'
import { createRegistry } from '../app.ts'
import { DEFAULT_LIMITS, type RegistryDeps } from '../deps.ts'
import { logDefects } from '../http/log-defects.ts'
import { assertLog } from '../log/cosignatures.ts'
import { expiredBefore, sweepStaging } from '../publish/sweep.ts'
import { openFileBlobs } from './file-blobs.ts'
import { openSqliteCatalogue, readMigrations } from './sqlite-catalogue.ts'

const MIGRATIONS = fileURLToPath(new URL('../../infra/migrations/registry/', import.meta.url))

export interface NodeRegistryOptions
  extends Partial<
    Pick<
      RegistryDeps,
      'blobs' | 'clock' | 'limits' | 'log' | 'randomId' | 'trustedIssuers' | 'signIn'
    >
  > {
  /** Holds everything: registry.sqlite, blobs, the issuer's key. Made when absent. */
  stateDir: string
  issuerName: string
  /** @default none */
  witnesses?: readonly string[]
  /** @default null: the registry cannot be set up */
  setupCode?: string | null
}

/** The key of the first start, readable by its owner alone. */
async function loadKey(file: string, whose: string, lost: string): Promise<SigningKey> {
  const read = () =>
    readFile(file, 'utf8').catch((e: NodeJS.ErrnoException) => {
      if (e.code === 'ENOENT') return null
      throw e
    })
  let text = await read()
  if (text === null) {
    const jwk = JSON.stringify(await exportSigningKey(await generateSigningKey()))
    const temporary = `${file}.${randomUUID()}`
    const handle = await open(temporary, 'wx', 0o600)
    await handle.writeFile(jwk)
    await handle.sync()
    await handle.close()
    // A link fails when another process was first; then its key is the one.
    await link(temporary, file).catch((e: NodeJS.ErrnoException) => {
      if (e.code !== 'EEXIST') throw e
    })
    await rm(temporary)
    text = (await read())!
  }
  try {
    return await importSigningKey(JSON.parse(text) as JsonWebKey)
  } catch (cause) {
    throw new GraftError(
      'ERR_STATE_DAMAGED',
      `${file} must hold ${whose} private JWK and cannot be read; restore it from a backup, or remove it to start over (${lost})`,
      { cause },
    )
  }
}

/** The registry on one machine: SQLite and files below `stateDir`. */
export async function createNodeRegistry(options: NodeRegistryOptions): Promise<{
  app: ReturnType<typeof createRegistry>
  issuer: SigningKey
  /** Ends uploads that were given up; call it daily. */
  sweep(): Promise<number>
  close(): Promise<void>
}> {
  const { stateDir, issuerName, setupCode = null } = options
  await mkdir(stateDir, { recursive: true, mode: 0o700 })
  const keyAt = join(stateDir, 'issuer-key.json')
  const issuer = await loadKey(keyAt, "the issuer's", 'every token then dies')
  const logAt = join(stateDir, 'log-key.json')
  const logKey = await loadKey(logAt, "the log's", 'every client then refuses this registry')
  const witnesses = options.witnesses ?? []
  await assertLog(issuerName, witnesses)
  const blobs = options.blobs ?? (await openFileBlobs(join(stateDir, 'blobs')))
  const catalogue = openSqliteCatalogue(
    join(stateDir, 'registry.sqlite'),
    readMigrations(MIGRATIONS),
  )
  const deps: RegistryDeps = {
    catalogue,
    blobs,
    issuer,
    issuerName,
    logKey,
    witnesses,
    setupCode,
    clock: options.clock ?? (() => new Date()),
    limits: options.limits ?? DEFAULT_LIMITS,
    log: options.log ?? logDefects,
    trustedIssuers: options.trustedIssuers ?? [],
    ...(options.signIn ? { signIn: options.signIn } : {}),
    ...(options.randomId ? { randomId: options.randomId } : {}),
  }
  return {
    app: createRegistry(deps),
    issuer,
    sweep: () => sweepStaging(deps, expiredBefore(deps)),
    async close() {
      catalogue.close()
    },
  }
}

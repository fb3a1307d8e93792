import { GraftError } from '@graft/sdk/format/errors.ts'
import { importSigningKey, type SigningKey } from '@graft/sdk/format/jws.ts'
import { createRegistry } from '../app.ts'
import { DEFAULT_LIMITS, type RegistryDeps, type RegistryLimits } from '../deps.ts'
import { logDefects } from '../http/log-defects.ts'
import { assertLog } from '../log/cosignatures.ts'
import { sweepStaging } from '../publish/sweep.ts'
import { createD1Catalogue } from './d1-catalogue.ts'
import { createR2Blobs } from './r2-blobs.ts'

export interface WorkersRegistryBindings {
  DB: D1Database
  BLOBS: R2Bucket
  /** Secret: the issuer's private JWK as JSON. */
  ISSUER_KEY: string
  ISSUER_NAME: string
  /** Secret: the transparency log's private JWK (Ed25519) as JSON. */
  LOG_KEY: string
  /** C2SP verifier keys of witnesses, separated by white space. */
  WITNESSES?: string
  /** Secret; without it the registry cannot be set up. */
  SETUP_CODE?: string
}

/** An isolate has 128 MB, and verification holds an adapter and one tensor of it as f32 at once. */
export const WORKERS_LIMITS: RegistryLimits = {
  ...DEFAULT_LIMITS,
  adapter: 32 * 1024 * 1024,
  /** What one request may carry on the smallest plan. */
  blob: 95 * 1024 * 1024,
}

/** Milliseconds; an upload untouched for a day was given up. */
const UPLOAD_LIFETIME_MS = 86_400_000

/** The registry over D1 and R2; the migrations of infra/migrations/registry must have been applied. */
export async function createWorkersRegistry(
  bindings: WorkersRegistryBindings,
  options: Partial<Pick<RegistryDeps, 'clock' | 'limits' | 'log'>> = {},
): Promise<{
  app: ReturnType<typeof createRegistry>
  issuer: SigningKey
  /** For a cron trigger, daily. */
  sweep(): Promise<number>
}> {
  const issuer = await readKey('ISSUER_KEY', bindings.ISSUER_KEY)
  const logKey = await readKey('LOG_KEY', bindings.LOG_KEY)
  const witnesses = bindings.WITNESSES?.split(/\s+/).filter(Boolean) ?? []
  await assertLog(bindings.ISSUER_NAME, witnesses)
  const deps: RegistryDeps = {
    catalogue: createD1Catalogue(bindings.DB),
    blobs: createR2Blobs(bindings.BLOBS),
    issuer,
    issuerName: bindings.ISSUER_NAME,
    logKey,
    witnesses,
    setupCode: bindings.SETUP_CODE ?? null,
    clock: options.clock ?? (() => new Date()),
    limits: options.limits ?? WORKERS_LIMITS,
    log: options.log ?? logDefects,
  }
  return {
    app: createRegistry(deps),
    issuer,
    sweep: () => sweepStaging(deps, new Date(deps.clock().getTime() - UPLOAD_LIFETIME_MS)),
  }
}

async function readKey(name: string, text: string | undefined): Promise<SigningKey> {
  try {
    return await importSigningKey(JSON.parse(text ?? '') as JsonWebKey)
  } catch (cause) {
    throw new GraftError(
      'ERR_STATE_DAMAGED',
      `the secret ${name} must hold a private JWK as JSON; set it with \`wrangler secret put ${name}\``,
      { cause },
    )
  }
}

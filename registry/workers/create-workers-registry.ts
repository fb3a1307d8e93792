import { GraftError } from '@graft/sdk/format/errors.ts'
import { importSigningKey, type SigningKey } from '@graft/sdk/format/jws.ts'
import { createRegistry } from '../app.ts'
import { DEFAULT_LIMITS, type RegistryDeps, type RegistryLimits } from '../deps.ts'
import { logDefects } from '../http/log-defects.ts'
import { parseSignIn } from '../identity/oidc/sign-in-config.ts'
import { assertLog } from '../log/cosignatures.ts'
import { expiredBefore, sweepStaging } from '../publish/sweep.ts'
import type { S3Address } from '../stores/presign-s3.ts'
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
  /** OpenID Connect issuers whose identity tokens are taken, separated by white space. */
  TRUSTED_ISSUERS?: string
  /** Secret: SignInConfig of ../deps.ts as JSON; it holds the clients' secrets. */
  SIGN_IN?: string
  /** Secret; without it the registry cannot be set up. */
  SETUP_CODE?: string
  /**
   * R2's S3 API, so that clients send parts straight to the bucket: `https://<account>.r2.cloudflarestorage.com`, the
   * bucket's name and, as secrets, a key that may write objects. Without them parts go through the Worker.
   */
  S3_ENDPOINT?: string
  S3_BUCKET?: string
  S3_ACCESS_KEY_ID?: string
  S3_SECRET_ACCESS_KEY?: string
}

export const WORKERS_LIMITS: RegistryLimits = {
  ...DEFAULT_LIMITS,
  /** Hashed and looked through within the CPU seconds of one request. */
  adapter: 1024 ** 3,
  /** What one request may carry on the smallest plan; what is larger comes in parts. */
  put: 95 * 1024 * 1024,
}

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
    blobs: createR2Blobs(bindings.BLOBS, readS3(bindings)),
    issuer,
    issuerName: bindings.ISSUER_NAME,
    logKey,
    witnesses,
    setupCode: bindings.SETUP_CODE ?? null,
    ...(bindings.SIGN_IN ? { signIn: parseSignIn(bindings.SIGN_IN, 'the secret SIGN_IN') } : {}),
    trustedIssuers: bindings.TRUSTED_ISSUERS?.split(/\s+/).filter(Boolean) ?? [],
    clock: options.clock ?? (() => new Date()),
    limits: options.limits ?? WORKERS_LIMITS,
    log: options.log ?? logDefects,
  }
  return {
    app: createRegistry(deps),
    issuer,
    sweep: () => sweepStaging(deps, expiredBefore(deps)),
  }
}

/** @throws ERR_STATE_DAMAGED when only some of it is set */
function readS3(bindings: WorkersRegistryBindings): S3Address | null {
  const { S3_ENDPOINT, S3_BUCKET, S3_ACCESS_KEY_ID, S3_SECRET_ACCESS_KEY } = bindings
  const given = [S3_ENDPOINT, S3_BUCKET, S3_ACCESS_KEY_ID, S3_SECRET_ACCESS_KEY]
  if (given.every((value) => !value)) return null
  if (!S3_ENDPOINT || !S3_BUCKET || !S3_ACCESS_KEY_ID || !S3_SECRET_ACCESS_KEY)
    throw new GraftError(
      'ERR_STATE_DAMAGED',
      'S3_ENDPOINT, S3_BUCKET, S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY must be set together, got some of them; set the others or remove all',
    )
  return {
    bucketUrl: `${S3_ENDPOINT.replace(/\/$/, '')}/${S3_BUCKET}`,
    region: 'auto',
    credentials: async () => ({
      accessKeyId: S3_ACCESS_KEY_ID,
      secretAccessKey: S3_SECRET_ACCESS_KEY,
    }),
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

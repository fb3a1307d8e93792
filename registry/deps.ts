import type { SigningKey } from '@graft/sdk/format/jws.ts'
import type { BlobStore } from './stores/blob-store.ts'
import type { Catalogue } from './stores/catalogue.ts'

export interface RegistryLimits {
  /** Bytes of a JSON body. */
  json: number
  /** Bytes of a publish request, which carries the whole manifest, and of a base with all its tensor names. */
  manifest: number
  /** Bytes of one blob. */
  blob: number
  /** Bytes of adapter.safetensors. */
  adapter: number
  /** Bytes of a blob that one request brings whole. */
  put: number
  /** Bytes of a part; blobs beyond it may come in parts. S3 and R2 want 5 MiB at least and all but the last alike. */
  part: number
  /** Seconds until an upload that was not finished may be swept. */
  uploadSeconds: number
  /** Seconds that an address for one part lives: enough for the slowest link worth waiting for. */
  partUrlSeconds: number
  /** Seconds that a capability lives: long enough for a slow pull, short enough to forget. */
  capabilitySeconds: number
}

export const DEFAULT_LIMITS: RegistryLimits = {
  json: 64 * 1024,
  manifest: 16 * 1024 * 1024,
  blob: 2 * 1024 ** 3,
  adapter: 2 * 1024 ** 3,
  put: 2 * 1024 ** 3,
  part: 8 * 1024 * 1024,
  uploadSeconds: 86_400,
  partUrlSeconds: 3600,
  capabilitySeconds: 15 * 60,
}

/** A client of an OpenID Connect issuer, as the issuer registered it. */
export interface SignInProvider {
  /** In the page's addresses: `corp`. */
  id: string
  /** On the page's button. */
  name: string
  issuer: string
  clientId: string
  /** Null for a public client. */
  clientSecret: string | null
}
export interface SignInConfig {
  /** This registry as browsers reach it; with /account/oidc/callback it is the redirect URI. */
  publicUrl: string
  providers: readonly SignInProvider[]
}

/** What a request leaves behind. Never a token, a key or a body. */
export interface LogRecord {
  at: string
  requestId: string
  method: string
  path: string
  status: number
  ms: number
  code?: string
  /** Only of defects (ERR_INTERNAL). */
  error?: unknown
}

export interface RegistryDeps {
  catalogue: Catalogue
  blobs: BlobStore
  /** Signs access tokens and capabilities. */
  issuer: SigningKey
  /** `iss` of what it signs, the edge expects the same name; without its scheme it is the log's origin. */
  issuerName: string
  /** Signs the transparency log's checkpoints (Ed25519). */
  logKey: SigningKey
  /** C2SP verifier keys (cosignature/v1) of the witnesses whose cosignatures are taken and shown. */
  witnesses: readonly string[]
  clock: () => Date
  /** Lets the first administrator in, once; null closes that door. */
  setupCode: string | null
  limits: RegistryLimits
  /** OpenID Connect issuers whose identity tokens are taken, as their tokens name them. @default none */
  trustedIssuers?: readonly string[]
  /** Where people may sign in. @default nowhere else */
  signIn?: SignInConfig
  /** Asks those issuers for their keys. @default globalThis.fetch */
  fetch?: typeof fetch
  /** Called once a request. @default none */
  log?: (record: LogRecord) => void
  /** Unguessable ids of tokens, uploads and requests. @default crypto.randomUUID */
  randomId?: () => string
}

export const newId = (deps: RegistryDeps): string =>
  (deps.randomId ?? crypto.randomUUID.bind(crypto))()
export const nowIso = (deps: RegistryDeps): string => deps.clock().toISOString()

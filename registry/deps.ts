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
  /** Bytes of adapter.safetensors, which verification reads into memory. */
  adapter: number
  /** Seconds that a capability lives: long enough for a slow pull, short enough to forget. */
  capabilitySeconds: number
}

export const DEFAULT_LIMITS: RegistryLimits = {
  json: 64 * 1024,
  manifest: 16 * 1024 * 1024,
  blob: 2 * 1024 ** 3,
  adapter: 512 * 1024 * 1024,
  capabilitySeconds: 15 * 60,
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
  /** Called once a request. @default none */
  log?: (record: LogRecord) => void
  /** Unguessable ids of tokens, uploads and requests. @default crypto.randomUUID */
  randomId?: () => string
}

export const newId = (deps: RegistryDeps): string =>
  (deps.randomId ?? crypto.randomUUID.bind(crypto))()
export const nowIso = (deps: RegistryDeps): string => deps.clock().toISOString()

import { type ByteSource, chunksOf, heldBytes } from '../format/byte-source.ts'
import { type CreateHash, type Digest, sha256 } from '../format/digest.ts'
import { ERRORS, type ErrorCode, expected, GraftError } from '../format/errors.ts'
import { type SigningKey, signEnvelope } from '../format/jws.ts'
import { JWS_TYPES, type Manifest, type SignedEnvelope } from '../format/manifest.ts'
import { manifestBytes } from '../format/parse-manifest.ts'
import type { PublishAnswer, PublishRequest, Visibility } from '../protocol/registry-api.ts'
import type { Http } from './http.ts'
import { path } from './path.ts'
import { sendBlob } from './send-blob.ts'
import { sleep } from './watch.ts'

export interface PublishProgress {
  phase: 'signing' | 'uploading' | 'verifying' | 'published'
  /** Bytes sent of the blobs that were missing. */
  sent: number
  total: number
}

export interface PublishOptions {
  manifest: Manifest
  /** adapter.safetensors; a source is read by ranges and never held whole. */
  safetensors: Uint8Array | ByteSource
  /** Other blobs that the manifest or its attestations name, like the logits of goldens. */
  blobs?: { digest: Digest; bytes: Uint8Array | ByteSource }[]
  /**
   * The platform's own, so that sources are checked before they are sent.
   * @default none: of a source the registry finds out what it is
   */
  createHash?: CreateHash
  attestations?: SignedEnvelope[]
  keys: SigningKey[]
  /** @default 'public' */
  visibility?: Visibility
  /** @default ['latest'] */
  tags?: string[]
  onProgress?: (progress: PublishProgress) => void
  /** Stream uploads so that progress moves within a blob; needs a runtime with streaming requests. @default false */
  streamUploads?: boolean
  signal?: AbortSignal
}

export interface Published {
  name: string
  version: string
  digest: Digest
  /** false: this very version was there already and nothing changed. */
  created: boolean
}

/** Verification of a large adapter reads all of it. */
const COMPLETE_TIMEOUT_MS = 600_000
const POLL_MS = 500

/**
 * Signs and publishes. Interrupted, call it again with the same version: what arrived is not sent twice, and a version
 * that is there already with the same digest is left as it is.
 * @throws ERR_VERSION_EXISTS for the same version with another digest, and whatever the registry refuses
 */
export async function publish(http: Http, options: PublishOptions): Promise<Published> {
  const { manifest, keys, signal } = options
  const label = `publish ${manifest.name}@${manifest.version}`
  if (keys.length === 0)
    throw new GraftError('ERR_REQUEST_INVALID', expected(`${label}: keys`, 'one or more keys', 0))
  const report = (phase: PublishProgress['phase'], sent: number, total: number): void =>
    options.onProgress?.({ phase, sent, total })
  report('signing', 0, 0)
  const sources = await sourcesOf(options)
  const tags = options.tags
  const request: PublishRequest = {
    envelope: await signEnvelope(manifestBytes(manifest), JWS_TYPES.manifest, keys),
    attestations: options.attestations ?? [],
    visibility: options.visibility ?? 'public',
    ...(tags ? { tags } : {}),
    blobs: [...sources].map(([digest, { size }]) => ({ digest, size })),
  }
  let answer = await http.json<PublishAnswer>({
    method: 'POST',
    path: '/v1/publish',
    json: request,
    // The registry knows a repeated request as the same upload.
    idempotent: true,
    signal,
    what: label,
  })
  const created = answer.state !== 'published'
  if (created) {
    const total = answer.missing.reduce((sum, { size }) => sum + size, 0)
    let sent = 0
    report('uploading', 0, total)
    for (const blob of answer.missing) {
      const source = sources.get(blob.digest)
      if (source === undefined)
        throw new GraftError(
          'ERR_BLOB_UNKNOWN',
          `${label}: the registry asks for ${blob.digest}, which was not given`,
        )
      await sendBlob(http, blob, source, {
        stream: options.streamUploads ?? false,
        signal,
        what: `${label}: upload`,
        onBytes: (n) => report('uploading', sent + n, total),
      })
      sent += blob.size
      report('uploading', sent, total)
    }
    report('verifying', total, total)
    answer = await complete(http, answer, label, signal)
    report('published', total, total)
  }
  const { name, version, digest } = answer
  return { name, version, digest, created }
}

/** @throws ERR_DIGEST_MISMATCH for a source that is not what its digest says */
async function sourcesOf({
  manifest,
  safetensors,
  blobs = [],
  createHash,
}: PublishOptions): Promise<Map<Digest, ByteSource>> {
  const canonical = manifest.files.find((file) => file.role === 'canonical')
  if (canonical === undefined)
    throw new GraftError(
      'ERR_MANIFEST_INVALID',
      expected('files', 'one canonical file', manifest.files.length),
    )
  const given = [{ digest: canonical.sha256, bytes: safetensors }, ...blobs]
  const sources = new Map<Digest, ByteSource>()
  for (const { digest, bytes } of given) {
    const got = await digestOf(bytes, createHash)
    if (got !== null && got !== digest)
      throw new GraftError('ERR_DIGEST_MISMATCH', expected('a blob to publish', digest, got))
    sources.set(digest, bytes instanceof Uint8Array ? heldBytes(bytes) : bytes)
  }
  return sources
}

/** null where nothing can tell without holding the whole source. */
async function digestOf(
  bytes: Uint8Array | ByteSource,
  createHash: CreateHash | undefined,
): Promise<Digest | null> {
  if (bytes instanceof Uint8Array) return sha256(bytes)
  const hash = createHash?.()
  if (hash === undefined) return null
  for await (const chunk of chunksOf(bytes)) hash.update(chunk)
  return hash.digest()
}

async function complete(
  http: Http,
  started: PublishAnswer,
  what: string,
  signal: AbortSignal | undefined,
): Promise<PublishAnswer> {
  let answer = await http.json<PublishAnswer>({
    method: 'POST',
    path: path`/v1/publish/${started.id}/complete`,
    idempotent: true,
    timeoutMs: COMPLETE_TIMEOUT_MS,
    signal,
    what,
  })
  while (answer.state === 'verifying') {
    await sleep(POLL_MS, signal)
    if (signal?.aborted) throw new GraftError('ERR_CANCELLED', `${what} was cancelled`)
    answer = await http.json<PublishAnswer>({
      method: 'GET',
      path: path`/v1/publish/${started.id}`,
      signal,
      what,
    })
  }
  if (answer.state === 'published') return answer
  const { code, message } = answer.failure ?? { code: 'ERR_PUBLISH_STATE', message: '' }
  throw new GraftError(
    Object.hasOwn(ERRORS, code) ? (code as ErrorCode) : 'ERR_PUBLISH_STATE',
    message || `${what} ended as ${answer.state}; publish again`,
  )
}

import { type Digest, sha256 } from '../format/digest.ts'
import { ERRORS, type ErrorCode, expected, GraftError } from '../format/errors.ts'
import { type SigningKey, signEnvelope } from '../format/jws.ts'
import { JWS_TYPES, type Manifest, type SignedEnvelope } from '../format/manifest.ts'
import { manifestBytes } from '../format/parse-manifest.ts'
import type { PublishAnswer, PublishRequest, Visibility } from '../protocol/registry-api.ts'
import type { Http } from './http.ts'
import { path } from './path.ts'
import { sleep } from './watch.ts'

export interface PublishProgress {
  phase: 'signing' | 'uploading' | 'verifying' | 'published'
  /** Bytes sent of the blobs that were missing. */
  sent: number
  total: number
}

export interface PublishOptions {
  manifest: Manifest
  /** adapter.safetensors. */
  safetensors: Uint8Array
  /** Other blobs that the manifest or its attestations name, like the logits of goldens. */
  blobs?: { digest: Digest; bytes: Uint8Array }[]
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
const UPLOAD_CHUNK_BYTES = 64 * 1024

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
  const bytesOf = await blobsOf(options)
  const tags = options.tags
  const request: PublishRequest = {
    envelope: await signEnvelope(manifestBytes(manifest), JWS_TYPES.manifest, keys),
    attestations: options.attestations ?? [],
    visibility: options.visibility ?? 'public',
    ...(tags ? { tags } : {}),
    blobs: [...bytesOf].map(([digest, bytes]) => ({ digest, size: bytes.length })),
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
      const bytes = bytesOf.get(blob.digest)
      if (bytes === undefined)
        throw new GraftError(
          'ERR_BLOB_UNKNOWN',
          `${label}: the registry asks for ${blob.digest}, which was not given`,
        )
      await upload(http, blob.url, bytes, options, `${label}: upload`, (n) =>
        report('uploading', sent + n, total),
      )
      sent += bytes.length
      report('uploading', sent, total)
    }
    report('verifying', total, total)
    answer = await complete(http, answer, label, signal)
    report('published', total, total)
  }
  const { name, version, digest } = answer
  return { name, version, digest, created }
}

async function blobsOf(options: PublishOptions): Promise<Map<Digest, Uint8Array>> {
  const blobs = new Map<Digest, Uint8Array>()
  blobs.set(await sha256(options.safetensors), options.safetensors)
  for (const { digest, bytes } of options.blobs ?? []) {
    const got = await sha256(bytes)
    if (got !== digest)
      throw new GraftError('ERR_DIGEST_MISMATCH', expected('a blob to publish', digest, got))
    blobs.set(digest, bytes)
  }
  return blobs
}

async function upload(
  http: Http,
  url: string,
  bytes: Uint8Array,
  options: PublishOptions,
  what: string,
  onBytes: (sent: number) => void,
): Promise<void> {
  const { response, watch } = await http.send({
    method: 'PUT',
    path: url,
    body: () =>
      options.streamUploads ? streamOf(bytes, onBytes) : (bytes as Uint8Array<ArrayBuffer>),
    headers: {
      'content-type': 'application/octet-stream',
      ...(options.streamUploads ? { 'content-length': String(bytes.length) } : {}),
    },
    signal: options.signal,
    // A minute to begin, and as long again for every 64 KiB: the slowest link worth waiting for.
    timeoutMs: 60_000 + Math.ceil(bytes.length / UPLOAD_CHUNK_BYTES) * 1_000,
    what,
  })
  watch.disarm()
  await response.body?.cancel()
}

function streamOf(bytes: Uint8Array, onBytes: (sent: number) => void): ReadableStream<Uint8Array> {
  let at = 0
  return new ReadableStream(
    {
      pull(controller) {
        if (at >= bytes.length) return controller.close()
        const chunk = bytes.slice(at, at + UPLOAD_CHUNK_BYTES)
        at += chunk.length
        controller.enqueue(chunk)
        onBytes(at)
      },
    },
    { highWaterMark: 0 },
  )
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

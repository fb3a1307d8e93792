import { concatBytes } from '@graft/sdk/format/bytes.ts'
import type { Digest } from '@graft/sdk/format/digest.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'

/** Bytes [start, end) of a blob. */
export interface ByteRange {
  start: number
  end: number
}

export type Bytes = ReadableStream<Uint8Array>

/**
 * Bytes by digest, and staging areas, one per upload, where bytes wait until their version is published.
 * Streams move in chunks; no implementation holds a whole blob in memory. A crash at any point leaves a key either
 * absent or whole. Which caller may see a blob is the catalogue's business, not the store's.
 */
export interface BlobStore {
  /**
   * Keeps `body` under (upload, digest) once all of it has arrived and is what was promised; again is the same as once.
   * @throws ERR_DIGEST_MISMATCH for another digest or size; nothing is kept
   */
  stage(upload: string, digest: Digest, size: number, body: Bytes): Promise<void>
  /** Null when this upload never staged it. */
  getStaged(upload: string, digest: Digest): Promise<Bytes | null>
  /** Makes a staged blob a blob. It stays staged too, so that a promotion cut short can be repeated. */
  promote(upload: string, digest: Digest): Promise<void>
  /** Forgets all that the upload staged. */
  discard(upload: string): Promise<void>
  /** Null when absent. The stream is opened when first read. */
  get(digest: Digest, range?: ByteRange): Promise<Bytes | null>
  /** Size in bytes, or null when absent. */
  head(digest: Digest): Promise<number | null>
  delete(digest: Digest): Promise<void>
}

export const mismatch = (digest: Digest, size: number, got: string): GraftError =>
  new GraftError(
    'ERR_DIGEST_MISMATCH',
    `blob ${digest} must be ${size} bytes with that digest, got ${got}; send the file again as it was signed`,
  )

/** A stream of bytes already in memory. */
export const streamOf = (bytes: Uint8Array): Bytes =>
  new ReadableStream({
    start(controller) {
      if (bytes.length > 0) controller.enqueue(bytes)
      controller.close()
    },
  })

/** The whole stream in memory. @throws ERR_BODY_TOO_LARGE beyond `limit` bytes, without reading on */
export async function readAll(body: Bytes, limit: number, what: string): Promise<Uint8Array> {
  const chunks: Uint8Array[] = []
  let size = 0
  for await (const chunk of body as unknown as AsyncIterable<Uint8Array>) {
    size += chunk.length
    if (size > limit)
      throw new GraftError('ERR_BODY_TOO_LARGE', `${what} must be at most ${limit} bytes, got more`)
    chunks.push(chunk)
  }
  return concatBytes(chunks)
}

import { concatBytes } from '@graft/sdk/format/bytes.ts'
import type { CreateHash, Digest } from '@graft/sdk/format/digest.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'

/** Bytes [start, end) of a blob. */
export interface ByteRange {
  start: number
  end: number
}

export type Bytes = ReadableStream<Uint8Array>

/** A part of a blob that is there, whole. */
export interface StoredPart {
  /** From 1. */
  number: number
  size: number
}

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
  /** Null when this upload never staged it. The stream is opened when first read. */
  getStaged(upload: string, digest: Digest, range?: ByteRange): Promise<Bytes | null>
  /**
   * Keeps one part of a blob, from 1 on, once all of it has arrived; again replaces it.
   * @throws ERR_DIGEST_MISMATCH for another size; nothing is kept
   */
  putPart(upload: string, digest: Digest, number: number, size: number, body: Bytes): Promise<void>
  /** In the order of their numbers. */
  listParts(upload: string, digest: Digest): Promise<StoredPart[]>
  /**
   * An address that takes a PUT of exactly `size` bytes as that part for so many seconds; absent where bytes go through
   * the server.
   */
  presignPart?(
    upload: string,
    digest: Digest,
    number: number,
    size: number,
    seconds: number,
  ): Promise<string>
  /**
   * Stages what parts 1 to `count` hold, one after the other. What is staged was hashed after nobody could change it any
   * more, so that an address still valid swaps nothing.
   * @throws ERR_DIGEST_MISMATCH for other bytes than promised; then the parts are gone and nothing is staged
   */
  joinParts(upload: string, digest: Digest, size: number, count: number): Promise<void>
  /** Makes a staged blob a blob. It stays staged too, so that a promotion cut short can be repeated. */
  promote(upload: string, digest: Digest): Promise<void>
  /** Forgets all that the upload staged, parts too. */
  discard(upload: string): Promise<void>
  /** Uploads that hold anything in staging. */
  listStaging(): Promise<string[]>
  /** Null when absent. The stream is opened when first read. */
  get(digest: Digest, range?: ByteRange): Promise<Bytes | null>
  /** Size in bytes, or null when absent. */
  head(digest: Digest): Promise<number | null>
  delete(digest: Digest): Promise<void>
  /** Frees what the store itself left half done before then; for stores that can leave such a thing. */
  sweep?(olderThan: Date): Promise<void>
  /** How this platform hashes a stream. */
  readonly createHash: CreateHash
}

export const mismatch = (digest: Digest, size: number, got: string): GraftError =>
  new GraftError(
    'ERR_DIGEST_MISMATCH',
    `blob ${digest} must be ${size} bytes with that digest, got ${got}; send the file again as it was signed`,
  )

export const wrongPart = (number: number, size: number, got: string): GraftError =>
  new GraftError(
    'ERR_DIGEST_MISMATCH',
    `part ${number} must be ${size} bytes, got ${got}; send it again`,
  )

/** Passes bytes on and counts them. @throws what `wrong` makes of any other number than `size` */
export function counted(size: number, wrong: (got: string) => GraftError) {
  let seen = 0
  return new TransformStream<Uint8Array, Uint8Array>({
    transform(chunk, controller) {
      seen += chunk.length
      if (seen > size) throw wrong(`more than ${size} bytes`)
      controller.enqueue(chunk)
    },
    flush() {
      if (seen !== size) throw wrong(`${seen} bytes`)
    },
  })
}

/** Streams one after the other, each opened when it is its turn. */
export function concatStreams(opens: readonly (() => Promise<Bytes>)[]): Bytes {
  let next = 0
  let reader: ReadableStreamDefaultReader<Uint8Array> | null = null
  return new ReadableStream(
    {
      async pull(controller) {
        for (;;) {
          if (reader === null) {
            const open = opens[next++]
            if (open === undefined) return controller.close()
            reader = (await open()).getReader()
          }
          const { value, done } = await reader.read()
          if (!done) return controller.enqueue(value)
          reader = null
        }
      },
      async cancel(reason) {
        await reader?.cancel(reason)
      },
    },
    { highWaterMark: 0 },
  )
}

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

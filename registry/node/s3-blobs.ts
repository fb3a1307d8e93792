import { createHash } from 'node:crypto'
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CopyObjectCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
  type S3ClientConfig,
  UploadPartCommand,
} from '@aws-sdk/client-s3'
import type { Digest } from '@graft/sdk/format/digest.ts'
import { type BlobStore, type ByteRange, type Bytes, mismatch } from '../stores/blob-store.ts'

/** All that of a body is in memory at once. S3 wants 5 MiB at least, R2 wants all parts but the last alike. */
const PART_BYTES = 8 * 1024 * 1024

const hexOf = (digest: Digest): string => digest.slice('sha256:'.length)
const blobKey = (digest: Digest): string => `blobs/${hexOf(digest)}`
const stagingPrefix = (upload: string): string => `staging/${upload}/`

const isAbsent = (e: unknown): boolean =>
  (e as { $metadata?: { httpStatusCode?: number } }).$metadata?.httpStatusCode === 404

/** Absent is null; everything else is thrown. */
const orNull = <T>(promise: Promise<T>): Promise<T | null> =>
  promise.catch((e: unknown) => {
    if (isAbsent(e)) return null
    throw e
  })

/** Parts of PART_BYTES, the last one shorter; at least one. Hashes on the way and ends only when all is as promised. */
async function* parts(digest: Digest, size: number, body: Bytes): AsyncGenerator<Uint8Array> {
  const hash = createHash('sha256')
  let part = new Uint8Array(Math.min(size, PART_BYTES))
  let filled = 0
  let seen = 0
  for await (const chunk of body as unknown as AsyncIterable<Uint8Array>) {
    if (seen + chunk.length > size) throw mismatch(digest, size, `more than ${size} bytes`)
    hash.update(chunk)
    for (let at = 0; at < chunk.length; ) {
      const some = chunk.subarray(at, at + part.length - filled)
      part.set(some, filled)
      filled += some.length
      at += some.length
      seen += some.length
      if (filled < part.length || seen === size) continue
      yield part
      part = new Uint8Array(Math.min(size - seen, PART_BYTES))
      filled = 0
    }
  }
  const got = hash.digest('hex')
  if (seen !== size) throw mismatch(digest, size, `${seen} bytes`)
  if (got !== hexOf(digest)) throw mismatch(digest, size, `sha256:${got}`)
  yield part.subarray(0, filled)
}

/**
 * Blobs in an S3 bucket of any maker. An object appears when its put or its multipart upload is completed, which
 * happens after its digest was checked; what a crash leaves of a multipart upload is never visible, and a lifecycle
 * rule of the bucket should expire it.
 */
export function createS3Blobs(bucket: string, config: S3ClientConfig): BlobStore & AsyncDisposable {
  // The SDK's default checksums are refused by R2 and others (501).
  const client = new S3Client({
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    ...config,
  })
  const at = (key: string) => ({ Bucket: bucket, Key: key })
  const stagedKey = (upload: string, digest: Digest) => `${stagingPrefix(upload)}${hexOf(digest)}`

  async function putParts(key: string, first: Uint8Array, rest: AsyncGenerator<Uint8Array>) {
    const { UploadId } = await client.send(new CreateMultipartUploadCommand(at(key)))
    const upload = { ...at(key), UploadId }
    try {
      const done: { PartNumber: number; ETag: string | undefined }[] = []
      const send = async (Body: Uint8Array) => {
        const PartNumber = done.length + 1
        const { ETag } = await client.send(new UploadPartCommand({ ...upload, PartNumber, Body }))
        done.push({ PartNumber, ETag })
      }
      await send(first)
      for await (const part of rest) await send(part)
      const MultipartUpload = { Parts: done }
      await client.send(new CompleteMultipartUploadCommand({ ...upload, MultipartUpload }))
    } catch (e) {
      await client.send(new AbortMultipartUploadCommand(upload)).catch(() => {
        // Then the bucket's lifecycle rule does.
      })
      throw e
    }
  }

  async function open(key: string, range?: ByteRange): Promise<Bytes | null> {
    const Range = range ? { Range: `bytes=${range.start}-${range.end - 1}` } : {}
    const found = await orNull(client.send(new GetObjectCommand({ ...at(key), ...Range })))
    return found && (found.Body!.transformToWebStream() as Bytes)
  }

  const sizeOf = async (key: string): Promise<number | null> =>
    (await orNull(client.send(new HeadObjectCommand(at(key)))))?.ContentLength ?? null

  return {
    async stage(upload, digest, size, body) {
      const key = stagedKey(upload, digest)
      const all = parts(digest, size, body)
      const { value: first } = (await all.next()) as { value: Uint8Array }
      if (size > PART_BYTES) await putParts(key, first, all)
      else await client.send(new PutObjectCommand({ ...at(key), Body: first }))
    },
    getStaged: (upload, digest) => open(stagedKey(upload, digest)),
    async promote(upload, digest) {
      if ((await sizeOf(blobKey(digest))) !== null) return
      const CopySource = `${bucket}/${stagedKey(upload, digest)}`
      await client.send(new CopyObjectCommand({ ...at(blobKey(digest)), CopySource }))
    },
    async discard(upload) {
      const list = { Bucket: bucket, Prefix: stagingPrefix(upload) }
      for (;;) {
        const { Contents = [], IsTruncated } = await client.send(new ListObjectsV2Command(list))
        for (const { Key } of Contents) await client.send(new DeleteObjectCommand(at(Key!)))
        if (!IsTruncated) return
      }
    },
    async get(digest, range) {
      // S3 knows no empty range.
      if (range && range.end <= range.start) return new ReadableStream({ start: (c) => c.close() })
      return open(blobKey(digest), range)
    },
    head: (digest) => sizeOf(blobKey(digest)),
    async delete(digest) {
      await client.send(new DeleteObjectCommand(at(blobKey(digest))))
    },
    async [Symbol.asyncDispose]() {
      client.destroy()
    },
  }
}

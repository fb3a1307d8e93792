import { createHash, randomUUID } from 'node:crypto'
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CopyObjectCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
  type S3ClientConfig,
  UploadPartCommand,
  UploadPartCopyCommand,
} from '@aws-sdk/client-s3'
import type { Digest } from '@graft/sdk/format/digest.ts'
import { isGraftError } from '@graft/sdk/format/errors.ts'
import {
  blobKey,
  hexOf,
  partKey,
  partsPrefix,
  presignPart,
  STAGING,
  stagedKey,
  stagingPrefix,
} from '../stores/blob-keys.ts'
import {
  type BlobStore,
  type ByteRange,
  type Bytes,
  counted,
  mismatch,
  type StoredPart,
  wrongPart,
} from '../stores/blob-store.ts'
import type { S3Address } from '../stores/presign-s3.ts'
import { countChunk } from './collect-chunks.ts'
import { nodeHash } from './node-hash.ts'

/** All that of a body is in memory at once. S3 wants 5 MiB at least, R2 wants all parts but the last alike. */
const PART_BYTES = 8 * 1024 * 1024

const statusOf = (e: unknown): number | undefined =>
  (e as { $metadata?: { httpStatusCode?: number } }).$metadata?.httpStatusCode
const isAbsent = (e: unknown): boolean => statusOf(e) === 404

/** How many of an object's parts are copied at once. */
const COPIES_AT_ONCE = 4

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
 * happens after its digest was checked; what a crash leaves of a multipart upload is never visible, and the sweeper aborts
 * it. A part is an object by itself: any server takes one by a presigned PUT, lists it and copies it into a multipart
 * upload, and nothing has to be remembered.
 */
export function createS3Blobs(bucket: string, config: S3ClientConfig): BlobStore & AsyncDisposable {
  // The SDK's default checksums are refused by R2 and others (501).
  const client = new S3Client({
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    ...config,
  })
  const at = (key: string) => ({ Bucket: bucket, Key: key })
  /** A multipart upload that is completed, or aborted. */
  async function putParts(
    key: string,
    send: (
      upload: { Bucket: string; Key: string; UploadId: string | undefined },
      add: (number: number, etag: string | undefined) => void,
    ) => Promise<void>,
  ): Promise<void> {
    const { UploadId } = await client.send(new CreateMultipartUploadCommand(at(key)))
    const upload = { ...at(key), UploadId }
    try {
      const done: { PartNumber: number; ETag: string | undefined }[] = []
      await send(upload, (PartNumber, ETag) => done.push({ PartNumber, ETag }))
      const Parts = done.sort((a, b) => a.PartNumber - b.PartNumber)
      const complete = { ...upload, MultipartUpload: { Parts } }
      await client.send(new CompleteMultipartUploadCommand(complete))
    } catch (e) {
      await client.send(new AbortMultipartUploadCommand(upload)).catch(() => {
        // Then the sweeper does, or the bucket's lifecycle rule.
      })
      throw e
    }
  }

  const sendParts = (key: string, first: Uint8Array, rest: AsyncGenerator<Uint8Array>) =>
    putParts(key, async (upload, add) => {
      let PartNumber = 0
      const send = async (Body: Uint8Array) => {
        const sent = new UploadPartCommand({ ...upload, PartNumber: ++PartNumber, Body })
        add(PartNumber, (await client.send(sent)).ETag)
      }
      await send(first)
      for await (const part of rest) await send(part)
    })

  const copyParts = (key: string, sources: readonly string[]) =>
    putParts(key, async (upload, add) => {
      let next = 0
      const work = async () => {
        for (let i = next++; i < sources.length; i = next++) {
          const PartNumber = i + 1
          const CopySource = `${bucket}/${sources[i]}`
          const copy = new UploadPartCopyCommand({ ...upload, PartNumber, CopySource })
          add(PartNumber, (await client.send(copy)).CopyPartResult?.ETag)
        }
      }
      await Promise.all(Array.from({ length: COPIES_AT_ONCE }, work))
    })

  const copy = (from: string, to: string) =>
    client.send(new CopyObjectCommand({ ...at(to), CopySource: `${bucket}/${from}` }))

  const remove = (key: string) => client.send(new DeleteObjectCommand(at(key)))

  async function* list(prefix: string, delimiter?: string) {
    for (let ContinuationToken: string | undefined; ; ) {
      const page = await client.send(
        new ListObjectsV2Command({
          Bucket: bucket,
          Prefix: prefix,
          Delimiter: delimiter,
          ContinuationToken,
        }),
      )
      yield page
      if (!page.IsTruncated) return
      ContinuationToken = page.NextContinuationToken
    }
  }

  async function removeAll(prefix: string): Promise<void> {
    // Not DeleteObjects: the SDK sends a checksum with it that not every server takes.
    for await (const { Contents = [] } of list(prefix))
      for (const { Key } of Contents) await remove(Key!)
  }

  /** What presigning needs to know of the client. */
  const address = async (): Promise<S3Address> => {
    const region = await client.config.region()
    const endpoint = new URL(
      typeof config.endpoint === 'string' ? config.endpoint : `https://s3.${region}.amazonaws.com`,
    )
    if (config.forcePathStyle)
      endpoint.pathname = `${endpoint.pathname.replace(/\/$/, '')}/${bucket}`
    else endpoint.host = `${bucket}.${endpoint.host}`
    return { bucketUrl: endpoint.href, region, credentials: client.config.credentials }
  }

  async function open(key: string, range?: ByteRange): Promise<Bytes | null> {
    const Range = range ? { Range: `bytes=${range.start}-${range.end - 1}` } : {}
    const found = await orNull(client.send(new GetObjectCommand({ ...at(key), ...Range })))
    return found && (found.Body!.transformToWebStream() as Bytes)
  }

  const sizeOf = async (key: string): Promise<number | null> =>
    (await orNull(client.send(new HeadObjectCommand(at(key)))))?.ContentLength ?? null

  /** @throws ERR_DIGEST_MISMATCH */
  async function assertDigest(key: string, digest: Digest, size: number): Promise<void> {
    const body = await open(key)
    if (body === null) throw new Error(`object ${key} is gone`)
    const hash = createHash('sha256')
    const right = body.pipeThrough(counted(size, (got) => mismatch(digest, size, got)))
    for await (const chunk of right as unknown as AsyncIterable<Uint8Array>) {
      hash.update(chunk)
      countChunk(chunk.length)
    }
    const got = hash.digest('hex')
    if (got !== hexOf(digest)) throw mismatch(digest, size, `sha256:${got}`)
  }

  return {
    createHash: nodeHash,
    async stage(upload, digest, size, body) {
      const key = stagedKey(upload, digest)
      const all = parts(digest, size, body)
      const { value: first } = (await all.next()) as { value: Uint8Array }
      if (size > PART_BYTES) await sendParts(key, first, all)
      else await client.send(new PutObjectCommand({ ...at(key), Body: first }))
    },
    getStaged: (upload, digest, range) => open(stagedKey(upload, digest), range),
    async putPart(upload, digest, number, size, body) {
      // Whole in memory, as every part that the SDK sends: it cannot sign a stream of bytes.
      const Body = new Uint8Array(size)
      let filled = 0
      const right = body.pipeThrough(counted(size, (got) => wrongPart(number, size, got)))
      for await (const chunk of right as unknown as AsyncIterable<Uint8Array>) {
        Body.set(chunk, filled)
        filled += chunk.length
      }
      await client.send(new PutObjectCommand({ ...at(partKey(upload, digest, number)), Body }))
    },
    async listParts(upload, digest) {
      const prefix = partsPrefix(upload, digest)
      const found: StoredPart[] = []
      for await (const { Contents = [] } of list(prefix))
        for (const { Key, Size } of Contents)
          found.push({ number: Number(Key!.slice(prefix.length)), size: Size! })
      return found.sort((a, b) => a.number - b.number)
    },
    presignPart: async (upload, digest, number, size, seconds) =>
      presignPart(await address(), { upload, digest, number, size }, seconds),
    async joinParts(upload, digest, size, count) {
      const key = stagedKey(upload, digest)
      const sources = Array.from({ length: count }, (_, i) => partKey(upload, digest, i + 1))
      // Nobody has an address of this one, and no other join writes to it: what was hashed is what is staged.
      const joined = `${key}.joined-${randomUUID()}`
      try {
        await copyParts(joined, sources)
        await assertDigest(joined, digest, size)
        await copy(joined, key)
      } catch (e) {
        if (isGraftError(e) && e.code === 'ERR_DIGEST_MISMATCH')
          await removeAll(partsPrefix(upload, digest))
        throw e
      } finally {
        await remove(joined).catch(() => {
          // Discarded with the upload.
        })
      }
      await removeAll(partsPrefix(upload, digest))
    },
    async promote(upload, digest) {
      if ((await sizeOf(blobKey(digest))) !== null) return
      await copy(stagedKey(upload, digest), blobKey(digest))
    },
    discard: (upload) => removeAll(stagingPrefix(upload)),
    async listStaging() {
      const uploads: string[] = []
      for await (const { CommonPrefixes = [] } of list(STAGING, '/'))
        for (const { Prefix } of CommonPrefixes) uploads.push(Prefix!.slice(STAGING.length, -1))
      return uploads
    },
    async sweep(olderThan) {
      const command = new ListMultipartUploadsCommand({ Bucket: bucket, Prefix: STAGING })
      const found = await client.send(command).catch((e: unknown) => {
        // A server that cannot list them has to expire them itself, as R2 does after 7 days.
        if (statusOf(e) === 501) return { Uploads: [] }
        throw e
      })
      for (const { Key, UploadId, Initiated } of found.Uploads ?? [])
        if (Initiated! < olderThan)
          await client.send(new AbortMultipartUploadCommand({ ...at(Key!), UploadId }))
    },
    async get(digest, range) {
      // S3 knows no empty range.
      if (range && range.end <= range.start) return new ReadableStream({ start: (c) => c.close() })
      return open(blobKey(digest), range)
    },
    head: (digest) => sizeOf(blobKey(digest)),
    async delete(digest) {
      await remove(blobKey(digest))
    },
    async [Symbol.asyncDispose]() {
      client.destroy()
    },
  }
}

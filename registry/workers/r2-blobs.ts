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
  concatStreams,
  counted,
  mismatch,
  type StoredPart,
  wrongPart,
} from '../stores/blob-store.ts'
import type { S3Address } from '../stores/presign-s3.ts'
import { workersHash } from './workers-hash.ts'

const toHex = (bytes: ArrayBuffer): string =>
  Array.from(new Uint8Array(bytes), (byte) => byte.toString(16).padStart(2, '0')).join('')

/** Passes bytes on while it hashes them. */
function hashed(digest: Digest, size: number) {
  const hash = new crypto.DigestStream('SHA-256')
  const writer = hash.getWriter()
  // Read only when all went well; a broken stream must not leave an unhandled rejection.
  hash.digest.catch(() => {})
  return new TransformStream<Uint8Array, Uint8Array>({
    async transform(chunk, controller) {
      await writer.write(chunk)
      controller.enqueue(chunk)
    },
    async flush() {
      await writer.close()
      const got = toHex(await hash.digest)
      if (got !== hexOf(digest)) throw mismatch(digest, size, `sha256:${got}`)
    },
  })
}

/**
 * Blobs in an R2 bucket. An object appears once its put is done, and R2 checks the digest once more by itself; a promotion
 * passes the bytes through that check again, so that no address still valid can swap them. R2 wants to know a stream's
 * length beforehand, hence the fixed-length stream between. The binding can neither copy nor list the parts of a multipart
 * upload, so a part is an object by itself.
 * @param s3 the same bucket by its S3 API, so that clients send parts to it directly
 */
export function createR2Blobs(bucket: R2Bucket, s3: S3Address | null = null): BlobStore {
  async function put(
    key: string,
    size: number,
    checked: Bytes,
    options?: R2PutOptions,
  ): Promise<void> {
    const { readable, writable } = new FixedLengthStream(size)
    // The check's refusal must reach the caller, not the one that R2 makes of a stream cut short.
    let refusal: unknown = null
    const piped = checked.pipeTo(writable).catch((e: unknown) => {
      refusal = e
    })
    try {
      await bucket.put(key, readable, options)
      await piped
    } catch (e) {
      await piped
      throw refusal ?? e
    }
    if (refusal !== null) {
      await bucket.delete(key)
      throw refusal
    }
  }

  const putBlob = (key: string, digest: Digest, size: number, body: Bytes): Promise<void> => {
    const right = body.pipeThrough(counted(size, (got) => mismatch(digest, size, got)))
    return put(key, size, right.pipeThrough(hashed(digest, size)), { sha256: hexOf(digest) })
  }

  async function open(key: string, range?: ByteRange): Promise<Bytes | null> {
    const options = range
      ? { range: { offset: range.start, length: range.end - range.start } }
      : undefined
    return ((await bucket.get(key, options))?.body as Bytes | undefined) ?? null
  }

  /** Whatever the prefix holds, or what lies below it. */
  async function* pages(prefix: string, delimiter?: string): AsyncGenerator<R2Objects> {
    for (let cursor: string | undefined; ; ) {
      const page = await bucket.list({
        prefix,
        ...(delimiter ? { delimiter } : {}),
        ...(cursor ? { cursor } : {}),
      })
      yield page
      if (!page.truncated) return
      cursor = page.cursor
    }
  }

  async function removeAll(prefix: string): Promise<void> {
    // One page of a listing is at most 1,000 keys, which is also what one delete takes.
    for (;;) {
      const { objects, truncated } = await bucket.list({ prefix })
      if (objects.length > 0) await bucket.delete(objects.map((object) => object.key))
      if (!truncated) return
    }
  }

  return {
    createHash: workersHash,
    stage: (upload, digest, size, body) => putBlob(stagedKey(upload, digest), digest, size, body),
    getStaged: (upload, digest, range) => open(stagedKey(upload, digest), range),
    putPart: (upload, digest, number, size, body) =>
      put(
        partKey(upload, digest, number),
        size,
        body.pipeThrough(counted(size, (got) => wrongPart(number, size, got))),
      ),
    async listParts(upload, digest) {
      const prefix = partsPrefix(upload, digest)
      const parts: StoredPart[] = []
      for await (const { objects } of pages(prefix))
        for (const { key, size } of objects)
          parts.push({ number: Number(key.slice(prefix.length)), size })
      return parts.sort((a, b) => a.number - b.number)
    },
    ...(s3
      ? {
          presignPart: (upload, digest, number, size, seconds) =>
            presignPart(s3, { upload, digest, number, size }, seconds),
        }
      : {}),
    async joinParts(upload, digest, size, count) {
      const opens = Array.from({ length: count }, (_, i) => async () => {
        const part = await open(partKey(upload, digest, i + 1))
        if (part === null) throw new Error(`part ${i + 1} of blob ${digest} is gone`)
        return part
      })
      const prefix = partsPrefix(upload, digest)
      try {
        await putBlob(stagedKey(upload, digest), digest, size, concatStreams(opens))
      } catch (e) {
        if (isGraftError(e) && e.code === 'ERR_DIGEST_MISMATCH') await removeAll(prefix)
        throw e
      }
      await removeAll(prefix)
    },
    async promote(upload, digest) {
      if ((await bucket.head(blobKey(digest))) !== null) return
      const staged = await bucket.get(stagedKey(upload, digest))
      if (staged === null) throw new Error(`blob ${digest} of upload ${upload} is not staged`)
      await putBlob(blobKey(digest), digest, staged.size, staged.body as Bytes)
    },
    discard: (upload) => removeAll(stagingPrefix(upload)),
    async listStaging() {
      const uploads: string[] = []
      for await (const { delimitedPrefixes } of pages(STAGING, '/'))
        for (const prefix of delimitedPrefixes) uploads.push(prefix.slice(STAGING.length, -1))
      return uploads
    },
    get: (digest, range) => open(blobKey(digest), range),
    head: async (digest) => (await bucket.head(blobKey(digest)))?.size ?? null,
    delete: (digest) => bucket.delete(blobKey(digest)),
  }
}

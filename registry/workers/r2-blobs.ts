import type { Digest } from '@graft/sdk/format/digest.ts'
import { type BlobStore, type Bytes, mismatch } from '../stores/blob-store.ts'

const hexOf = (digest: Digest): string => digest.slice('sha256:'.length)
const blobKey = (digest: Digest): string => `blobs/${hexOf(digest)}`
const stagingPrefix = (upload: string): string => `staging/${upload}/`
const stagedKey = (upload: string, digest: Digest): string =>
  `${stagingPrefix(upload)}${hexOf(digest)}`

const toHex = (bytes: ArrayBuffer): string =>
  Array.from(new Uint8Array(bytes), (byte) => byte.toString(16).padStart(2, '0')).join('')

/** Passes bytes on while it hashes and counts them; more than `size` is refused at once. */
function meter(digest: Digest, size: number) {
  const hash = new crypto.DigestStream('SHA-256')
  const writer = hash.getWriter()
  // Read only when all went well; a broken stream must not leave an unhandled rejection.
  hash.digest.catch(() => {})
  let seen = 0
  const stream = new TransformStream<Uint8Array, Uint8Array>({
    async transform(chunk, controller) {
      seen += chunk.length
      if (seen > size) throw mismatch(digest, size, `more than ${size} bytes`)
      await writer.write(chunk)
      controller.enqueue(chunk)
    },
    async flush() {
      await writer.close()
      if (seen !== size) throw mismatch(digest, size, `${seen} bytes`)
      const got = toHex(await hash.digest)
      if (got !== hexOf(digest)) throw mismatch(digest, size, `sha256:${got}`)
    },
  })
  return stream
}

/**
 * Blobs in an R2 bucket. An object appears once its put is done, and R2 checks the digest once more by itself.
 * R2 wants to know a stream's length beforehand, hence the fixed-length stream between.
 */
export function createR2Blobs(bucket: R2Bucket): BlobStore {
  async function put(key: string, digest: Digest, size: number, body: Bytes): Promise<void> {
    const { readable, writable } = new FixedLengthStream(size)
    // The meter's refusal must reach the caller, not the one that R2 makes of a stream cut short.
    let refusal: unknown = null
    const piped = body
      .pipeThrough(meter(digest, size))
      .pipeTo(writable)
      .catch((e: unknown) => {
        refusal = e
      })
    try {
      await bucket.put(key, readable, { sha256: hexOf(digest) })
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

  const open = async (key: string, options?: R2GetOptions): Promise<Bytes | null> =>
    ((await bucket.get(key, options))?.body as Bytes | undefined) ?? null

  return {
    stage: (upload, digest, size, body) => put(stagedKey(upload, digest), digest, size, body),
    getStaged: (upload, digest) => open(stagedKey(upload, digest)),
    async promote(upload, digest) {
      if ((await bucket.head(blobKey(digest))) !== null) return
      const staged = await bucket.get(stagedKey(upload, digest))
      if (staged === null) throw new Error(`blob ${digest} of upload ${upload} is not staged`)
      await put(blobKey(digest), digest, staged.size, staged.body as Bytes)
    },
    async discard(upload) {
      // One page of a listing is at most 1,000 keys, which is also what one delete takes.
      for (;;) {
        const { objects, truncated } = await bucket.list({ prefix: stagingPrefix(upload) })
        if (objects.length > 0) await bucket.delete(objects.map((object) => object.key))
        if (!truncated) return
      }
    },
    get(digest, range) {
      if (!range) return open(blobKey(digest))
      const { start, end } = range
      return open(blobKey(digest), { range: { offset: start, length: end - start } })
    },
    head: async (digest) => (await bucket.head(blobKey(digest)))?.size ?? null,
    delete: (digest) => bucket.delete(blobKey(digest)),
  }
}

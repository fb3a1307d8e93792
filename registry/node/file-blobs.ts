import { createHash, randomUUID } from 'node:crypto'
import { constants, createReadStream } from 'node:fs'
import { copyFile, link, mkdir, open, rename, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Digest } from '@graft/sdk/format/digest.ts'
import { type BlobStore, type ByteRange, type Bytes, mismatch } from '../stores/blob-store.ts'

const codeOf = (e: unknown): string | undefined => (e as NodeJS.ErrnoException).code
const hexOf = (digest: Digest): string => digest.slice('sha256:'.length)

/** Makes a rename or link in the folder survive a power cut. */
async function syncFolder(folder: string): Promise<void> {
  // Windows cannot open folders; its rename is journalled with the file.
  if (process.platform === 'win32') return
  const handle = await open(folder, constants.O_RDONLY)
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

async function sizeOf(path: string): Promise<number | null> {
  try {
    return (await stat(path)).size
  } catch (e) {
    if (codeOf(e) === 'ENOENT') return null
    throw e
  }
}

/** Opens the file at the first read, so that a stream nobody reads holds no descriptor. */
function streamFile(path: string, { start, end }: ByteRange): Bytes {
  let chunks: AsyncIterator<Uint8Array> | null = null
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        if (end <= start) return controller.close()
        // `end` of a Node stream is inclusive.
        chunks ??= createReadStream(path, { start, end: end - 1 })[Symbol.asyncIterator]()
        const { value, done } = await chunks.next()
        if (done) controller.close()
        else controller.enqueue(new Uint8Array(value.buffer, value.byteOffset, value.byteLength))
      },
      async cancel() {
        await chunks?.return?.()
      },
    },
    { highWaterMark: 0 },
  )
}

/**
 * Blobs as files below `root`: blobs/<2 hex>/<hex>, staging/<upload>/<hex>, tmp/. A file appears under its name only
 * by rename or link, after its bytes are on disk.
 */
export async function openFileBlobs(root: string): Promise<BlobStore> {
  const temporary = join(root, 'tmp')
  // Whatever a crash left half written.
  await rm(temporary, { recursive: true, force: true })
  await mkdir(temporary, { recursive: true })

  const blobPath = (digest: Digest) => join(root, 'blobs', hexOf(digest).slice(0, 2), hexOf(digest))
  const stagingFolder = (upload: string) => {
    if (!/^[\w-]{1,128}$/.test(upload)) throw new TypeError(`upload id ${upload} is no file name`)
    return join(root, 'staging', upload)
  }
  const stagedPath = (upload: string, digest: Digest) => join(stagingFolder(upload), hexOf(digest))

  /** Hashes while it writes. @returns the path of a synced temporary file */
  async function receive(digest: Digest, size: number, body: Bytes): Promise<string> {
    const path = join(temporary, randomUUID())
    const hash = createHash('sha256')
    let written = 0
    const handle = await open(path, 'wx')
    try {
      for await (const chunk of body as unknown as AsyncIterable<Uint8Array>) {
        written += chunk.length
        if (written > size) throw mismatch(digest, size, `more than ${size} bytes`)
        hash.update(chunk)
        await handle.writeFile(chunk)
      }
      const got = hash.digest('hex')
      if (written !== size) throw mismatch(digest, size, `${written} bytes`)
      if (got !== hexOf(digest)) throw mismatch(digest, size, `sha256:${got}`)
      await handle.sync()
    } catch (e) {
      await handle.close()
      await rm(path, { force: true })
      throw e
    }
    await handle.close()
    return path
  }

  return {
    async stage(upload, digest, size, body) {
      const path = await receive(digest, size, body)
      const target = stagedPath(upload, digest)
      await mkdir(dirname(target), { recursive: true })
      await rename(path, target)
      await syncFolder(dirname(target))
    },
    async getStaged(upload, digest) {
      const path = stagedPath(upload, digest)
      const size = await sizeOf(path)
      return size === null ? null : streamFile(path, { start: 0, end: size })
    },
    async promote(upload, digest) {
      const target = blobPath(digest)
      if ((await sizeOf(target)) !== null) return
      await mkdir(dirname(target), { recursive: true })
      await linkOrCopy(stagedPath(upload, digest), target, join(temporary, randomUUID()))
      await syncFolder(dirname(target))
      await syncFolder(join(root, 'blobs'))
    },
    async discard(upload) {
      await rm(stagingFolder(upload), { recursive: true, force: true })
    },
    async get(digest, range) {
      const path = blobPath(digest)
      const size = await sizeOf(path)
      return size === null ? null : streamFile(path, range ?? { start: 0, end: size })
    },
    head: (digest) => sizeOf(blobPath(digest)),
    async delete(digest) {
      await rm(blobPath(digest), { force: true })
    },
  }
}

/** A second name for bytes that never change again, or a copy where the file system knows no links. */
async function linkOrCopy(source: string, target: string, temporary: string): Promise<void> {
  try {
    await link(source, target)
  } catch (e) {
    if (codeOf(e) === 'EEXIST') return
    if (!['EPERM', 'ENOTSUP', 'EMLINK', 'EXDEV', 'ENOSYS'].includes(codeOf(e) ?? '')) throw e
    await copyFile(source, temporary)
    const handle = await open(temporary, 'r+')
    await handle.sync()
    await handle.close()
    await rename(temporary, target)
  }
}

import { createHash, randomUUID } from 'node:crypto'
import { constants } from 'node:fs'
import {
  copyFile,
  type FileHandle,
  link,
  mkdir,
  open,
  readdir,
  rename,
  rm,
  stat,
} from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Digest } from '@graft/sdk/format/digest.ts'
import { isGraftError } from '@graft/sdk/format/errors.ts'
import {
  type BlobStore,
  type ByteRange,
  type Bytes,
  mismatch,
  wrongPart,
} from '../stores/blob-store.ts'
import { countChunk } from './collect-chunks.ts'
import { nodeHash } from './node-hash.ts'

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

/** What one read of a file brings, where nobody gives memory for it. */
const CHUNK_BYTES = 64 * 1024

/**
 * Opens the file at the first read, so that a stream nobody reads holds no descriptor. A reader that brings its own
 * memory makes no garbage.
 */
function streamFile(path: string, { start, end }: ByteRange): Bytes {
  let file: FileHandle | null = null
  let at = start
  const close = async () => {
    await file?.close()
    file = null
  }
  return new ReadableStream({
    type: 'bytes',
    autoAllocateChunkSize: CHUNK_BYTES,
    async pull(controller) {
      const request = controller.byobRequest!
      const view = request.view as Uint8Array<ArrayBuffer>
      let bytesRead = 0
      if (at < end) {
        file ??= await open(path)
        const length = Math.min(view.byteLength, end - at)
        bytesRead = (await file.read(view, 0, length, at)).bytesRead
        at += bytesRead
        countChunk(bytesRead)
      }
      if (bytesRead === 0) {
        await close()
        controller.close()
      }
      request.respond(bytesRead)
    },
    cancel: close,
  })
}

/** Files one after the other, through one piece of memory: a chunk holds until the next is asked for. */
async function* chunksOfFiles(paths: readonly string[]): AsyncGenerator<Uint8Array> {
  const room = new Uint8Array(4 * CHUNK_BYTES)
  for (const path of paths) {
    const file = await open(path)
    try {
      for (;;) {
        const { bytesRead } = await file.read(room, 0, room.length)
        if (bytesRead === 0) break
        yield room.subarray(0, bytesRead)
      }
    } finally {
      await file.close()
    }
  }
}

const iterate = (body: Bytes) => body as unknown as AsyncIterable<Uint8Array>

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder)
  } catch (e) {
    if (codeOf(e) === 'ENOENT') return []
    throw e
  }
}

/**
 * Blobs as files below `root`: blobs/<2 hex>/<hex>, staging/<upload>/<hex> and, for parts, <hex>.parts/<number>, tmp/. A
 * file appears under its name only by rename or link, after its bytes are on disk, and is never written to again.
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

  const partsFolder = (upload: string, digest: Digest) => `${stagedPath(upload, digest)}.parts`

  /** Writes exactly `size` bytes. @returns the path of a synced temporary file */
  async function receive(
    size: number,
    chunks: AsyncIterable<Uint8Array>,
    wrongSize: (got: string) => Error,
    /** Sees every chunk, and at the end may still refuse. */
    check?: { update(chunk: Uint8Array): void; end(): void },
  ): Promise<string> {
    const path = join(temporary, randomUUID())
    let written = 0
    const handle = await open(path, 'wx')
    try {
      for await (const chunk of chunks) {
        written += chunk.length
        if (written > size) throw wrongSize(`more than ${size} bytes`)
        check?.update(chunk)
        await handle.writeFile(chunk)
        countChunk(chunk.length)
      }
      if (written !== size) throw wrongSize(`${written} bytes`)
      check?.end()
      await handle.sync()
    } catch (e) {
      await handle.close()
      await rm(path, { force: true })
      throw e
    }
    await handle.close()
    return path
  }

  async function place(path: string, target: string): Promise<void> {
    await mkdir(dirname(target), { recursive: true })
    await rename(path, target)
    await syncFolder(dirname(target))
  }

  async function stage(
    upload: string,
    digest: Digest,
    size: number,
    chunks: AsyncIterable<Uint8Array>,
  ): Promise<void> {
    const hash = createHash('sha256')
    const wrongSize = (got: string) => mismatch(digest, size, got)
    const path = await receive(size, chunks, wrongSize, {
      update: (chunk) => void hash.update(chunk),
      end() {
        const got = hash.digest('hex')
        if (got !== hexOf(digest)) throw mismatch(digest, size, `sha256:${got}`)
      },
    })
    await place(path, stagedPath(upload, digest))
  }

  return {
    createHash: nodeHash,
    stage: (upload, digest, size, body) => stage(upload, digest, size, iterate(body)),
    async getStaged(upload, digest, range) {
      const path = stagedPath(upload, digest)
      const size = await sizeOf(path)
      return size === null ? null : streamFile(path, range ?? { start: 0, end: size })
    },
    async putPart(upload, digest, number, size, body) {
      const path = await receive(size, iterate(body), (got) => wrongPart(number, size, got))
      await place(path, join(partsFolder(upload, digest), String(number)))
    },
    async listParts(upload, digest) {
      const folder = partsFolder(upload, digest)
      const numbers = (await namesIn(folder)).map(Number).sort((a, b) => a - b)
      const sizes = await Promise.all(numbers.map((number) => sizeOf(join(folder, String(number)))))
      // One that a join removed meanwhile is no part any more.
      return numbers.flatMap((number, i) => (sizes[i] === null ? [] : { number, size: sizes[i]! }))
    },
    async joinParts(upload, digest, size, count) {
      const folder = partsFolder(upload, digest)
      const paths = Array.from({ length: count }, (_, i) => join(folder, String(i + 1)))
      const clear = () => rm(folder, { recursive: true, force: true })
      try {
        await stage(upload, digest, size, chunksOfFiles(paths))
      } catch (e) {
        if (isGraftError(e) && e.code === 'ERR_DIGEST_MISMATCH') await clear()
        throw e
      }
      await clear()
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
    listStaging: () => namesIn(join(root, 'staging')),
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

import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { type Digest, sha256 } from '@graft/sdk/format/digest.ts'

/**
 * Files by digest under one folder. Written beside and renamed into place, so that a crash leaves no half file
 * under a digest; hashed again whenever read, so that a damaged one is never used.
 */
export interface DiskCache {
  /** null when absent or damaged; a damaged blob is removed. */
  blob(digest: Digest): Promise<Uint8Array | null>
  putBlob(digest: Digest, bytes: Uint8Array): Promise<void>
  /** Notes are signed things that carry their own proof (version records, admissions); the reader verifies them. */
  note(kind: string, name: string): Promise<Uint8Array | null>
  /** Names of the notes of a kind. */
  notes(kind: string): Promise<string[]>
  putNote(kind: string, name: string, bytes: Uint8Array): Promise<void>
  removeNote(kind: string, name: string): Promise<void>
}

const hex = (digest: Digest): string => digest.slice('sha256:'.length)

async function readOrNull(path: string): Promise<Uint8Array | null> {
  try {
    return await readFile(path)
  } catch (e) {
    if ((e as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw e
  }
}

export function createDiskCache(folder: string): DiskCache {
  let writes = 0
  const write = async (path: string, bytes: Uint8Array): Promise<void> => {
    await mkdir(dirname(path), { recursive: true })
    const temporary = `${path}.${process.pid}.${writes++}.tmp`
    try {
      await writeFile(temporary, bytes, { flush: true })
      await rename(temporary, path)
    } catch (e) {
      await rm(temporary, { force: true })
      throw e
    }
  }
  const blobPath = (digest: Digest) => join(folder, 'blobs', hex(digest).slice(0, 2), hex(digest))
  const notePath = (kind: string, name: string) => join(folder, kind, encodeURIComponent(name))
  return {
    async blob(digest) {
      const bytes = await readOrNull(blobPath(digest))
      if (bytes === null) return null
      if ((await sha256(bytes)) === digest) return bytes
      await rm(blobPath(digest), { force: true })
      return null
    },
    putBlob: (digest, bytes) => write(blobPath(digest), bytes),
    note: (kind, name) => readOrNull(notePath(kind, name)),
    async notes(kind) {
      try {
        const names = await readdir(join(folder, kind))
        return names.filter((name) => !name.endsWith('.tmp')).map(decodeURIComponent)
      } catch (e) {
        if ((e as NodeJS.ErrnoException).code === 'ENOENT') return []
        throw e
      }
    },
    putNote: (kind, name, bytes) => write(notePath(kind, name), bytes),
    removeNote: (kind, name) => rm(notePath(kind, name), { force: true }),
  }
}

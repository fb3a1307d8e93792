import { mkdir, readdir, readFile, rm, stat, utimes } from 'node:fs/promises'
import { dirname, join, sep } from 'node:path'
import { type Digest, sha256 } from '@graft/sdk/format/digest.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import { writeWhole } from '../write-whole.ts'
import { ByteBudget } from './byte-budget.ts'

/**
 * Files by digest under one folder, within a number of bytes. Written beside and renamed into place, so that a crash
 * leaves no half file under a digest; whoever reads a blob hashes it, so that a damaged one is never used. The order of
 * use outlives a restart as the files' times.
 */
export interface DiskCache {
  /** Whether a blob is known to stand here, as of the last look. */
  has(digest: Digest): boolean
  /** Where a blob of this digest stands, marked as used; null when absent. */
  blobPath(digest: Digest): Promise<string | null>
  /** Bytes that hash to the digest; null when absent or damaged. A damaged blob is removed. */
  blob(digest: Digest): Promise<Uint8Array | null>
  /** @throws when the file system refuses, or the budget cannot hold it */
  putBlob(digest: Digest, bytes: Uint8Array): Promise<void>
  removeBlob(digest: Digest): Promise<void>
  /** Notes are signed things that carry their own proof (version records, admissions); the reader verifies them. */
  note(kind: string, name: string): Promise<Uint8Array | null>
  /** Names of the notes of a kind. */
  notes(kind: string): Promise<string[]>
  putNote(kind: string, name: string, bytes: Uint8Array): Promise<void>
  removeNote(kind: string, name: string): Promise<void>
  /** Bytes of all files, those being written among them. */
  readonly usedBytes: number
}

/** What a crash left half written is swept after this; a younger one may be another cache's work on this folder. */
const STALE_TEMPORARY_MS = 60_000

const hex = (digest: Digest): string => digest.slice('sha256:'.length)
const blobFile = (digest: Digest) => join('blobs', hex(digest).slice(0, 2), hex(digest))
const noteFile = (kind: string, name: string) => join(kind, encodeURIComponent(name))

const isAbsent = (e: unknown): boolean => (e as NodeJS.ErrnoException).code === 'ENOENT'

async function orNull<T>(work: Promise<T>): Promise<T | null> {
  try {
    return await work
  } catch (e) {
    if (isAbsent(e)) return null
    throw e
  }
}

/** Every file below the folder, the longest unused first. */
async function listFiles(folder: string) {
  const entries = (await orNull(readdir(folder, { recursive: true, withFileTypes: true }))) ?? []
  const files: { path: string; bytes: number; usedAt: number }[] = []
  for (const entry of entries) {
    if (!entry.isFile()) continue
    const full = join(entry.parentPath, entry.name)
    const facts = await orNull(stat(full))
    if (!facts) continue
    const path = full.slice(folder.length).replace(new RegExp(`^\\${sep}+`), '')
    files.push({ path, bytes: facts.size, usedAt: facts.mtimeMs })
  }
  return files.sort((a, b) => a.usedAt - b.usedAt)
}

/** @param budgetBytes of all files together */
export function createDiskCache(folder: string, budgetBytes: number): DiskCache {
  const budget = new ByteBudget<string>(budgetBytes)
  const remove = (path: string) => rm(join(folder, path), { force: true })

  /** What earlier runs left, oldest first; a smaller budget than theirs is kept from the start. */
  async function open(): Promise<void> {
    for (const { path, bytes, usedAt } of await listFiles(folder)) {
      const stale = path.endsWith('.tmp') && Date.now() - usedAt > STALE_TEMPORARY_MS
      if (stale || !(await makeRoom(bytes))) await remove(path)
      else budget.commit(path, bytes)
    }
  }

  /** Takes bytes, and only then removes who leaves for them. @returns whether the budget can hold so much at all */
  async function makeRoom(bytes: number): Promise<boolean> {
    const leaving = budget.claim(bytes)
    if (!leaving) return false
    // Gone before the new bytes come, so that both never stand on the disk together.
    await Promise.all(leaving.map(remove))
    return true
  }

  const opened = open().catch((e) => process.emitWarning(`the disk tier cannot be listed: ${e}`))

  async function write(path: string, bytes: Uint8Array): Promise<void> {
    await opened
    if (!(await makeRoom(bytes.length)))
      throw new GraftError(
        'ERR_BANK_FULL',
        expected('a file of the disk tier', `at most ${budgetBytes} bytes`, bytes.length),
      )
    const full = join(folder, path)
    try {
      await mkdir(dirname(full), { recursive: true })
      await writeWhole(full, bytes)
    } catch (e) {
      budget.cancel(bytes.length)
      throw e
    }
    budget.commit(path, bytes.length)
  }

  /** Marks a file as used, here and for the next start. @returns whether it is there */
  async function use(path: string): Promise<boolean> {
    await opened
    const full = join(folder, path)
    const now = new Date()
    if (budget.touch(path)) {
      // A time that cannot be set costs nothing but the order after a restart.
      if ((await orNull(utimes(full, now, now).catch(throwIfAbsent))) !== null) return true
      budget.remove(path)
      return false
    }
    const found = await orNull(stat(full))
    if (!found) return false
    if (await makeRoom(found.size)) budget.commit(path, found.size)
    return true
  }

  async function read(path: string): Promise<Uint8Array | null> {
    return (await use(path)) ? orNull(readFile(join(folder, path))) : null
  }

  async function drop(path: string): Promise<void> {
    await remove(path)
    budget.remove(path)
  }

  return {
    has: (digest) => budget.has(blobFile(digest)),
    async blobPath(digest) {
      return (await use(blobFile(digest))) ? join(folder, blobFile(digest)) : null
    },
    async blob(digest) {
      const bytes = await read(blobFile(digest))
      if (bytes === null || (await sha256(bytes)) === digest) return bytes
      await drop(blobFile(digest))
      return null
    },
    putBlob: (digest, bytes) => write(blobFile(digest), bytes),
    removeBlob: (digest) => drop(blobFile(digest)),
    note: (kind, name) => read(noteFile(kind, name)),
    async notes(kind) {
      await opened
      const names = (await orNull(readdir(join(folder, kind)))) ?? []
      return names.filter((name) => !name.endsWith('.tmp')).map(decodeURIComponent)
    },
    putNote: (kind, name, bytes) => write(noteFile(kind, name), bytes),
    removeNote: (kind, name) => drop(noteFile(kind, name)),
    get usedBytes() {
      return budget.used
    },
  }
}

/** Of a file whose time cannot be set, only that it is absent matters. */
function throwIfAbsent(e: unknown): void {
  if (isAbsent(e)) throw e
}

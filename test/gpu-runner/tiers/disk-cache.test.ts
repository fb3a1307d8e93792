import { mkdir, mkdtemp, readdir, rm, stat, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createDiskCache } from '@graft/runner/tiers/disk-cache.ts'
import { sha256 } from '@graft/sdk/format/digest.ts'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'graft-disk-'))
})
afterEach(() => rm(folder, { recursive: true, force: true }))

/** 1,000 bytes of a number, and their digest. */
async function blob(number: number) {
  const bytes = new Uint8Array(1_000).fill(number)
  return { bytes, digest: await sha256(bytes) }
}

/** What really stands below the folder, half written files among it. */
async function bytesOnDisk(): Promise<number> {
  let sum = 0
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true }))
    if (entry.isFile()) {
      const facts = await stat(join(entry.parentPath, entry.name)).catch(() => null)
      sum += facts?.size ?? 0
    }
  return sum
}

describe('the disk tier', () => {
  it('keeps its budget at every moment, with many writes under way', async () => {
    const disk = createDiskCache(folder, 3_500)
    const blobs = await Promise.all(Array.from({ length: 12 }, (_, i) => blob(i)))
    let most = 0
    let done = false
    const watching = (async () => {
      while (!done) most = Math.max(most, await bytesOnDisk(), disk.usedBytes)
    })()
    const written = await Promise.allSettled(
      blobs.map(({ bytes, digest }) => disk.putBlob(digest, bytes)),
    )
    done = true
    await watching
    expect(most).toBeLessThanOrEqual(3_500)
    // More at once than the budget holds: the others are told so, and nothing waits for ever.
    expect(written.filter(({ status }) => status === 'fulfilled').length).toBeGreaterThanOrEqual(3)
    for (const { bytes, digest } of blobs) await disk.putBlob(digest, bytes)
    expect(await bytesOnDisk()).toBe(3_000)
    expect(await disk.blob(blobs[11]!.digest)).toEqual(Buffer.from(blobs[11]!.bytes))
    expect(await disk.blob(blobs[0]!.digest)).toBeNull()
  })

  it('remembers the order of use over a restart', async () => {
    const [a, b, c] = [await blob(1), await blob(2), await blob(3)]
    const before = createDiskCache(folder, 2_000)
    await before.putBlob(a.digest, a.bytes)
    await before.putBlob(b.digest, b.bytes)
    // Times of files are what a restart sees; they are kept apart here by more than a clock's tick.
    const path = (await before.blobPath(b.digest))!
    await utimes(path, new Date(1_000_000), new Date(1_000_000))
    expect(await before.blobPath(a.digest)).not.toBeNull()
    const after = createDiskCache(folder, 2_000)
    await after.putBlob(c.digest, c.bytes)
    expect(await after.blobPath(b.digest)).toBeNull()
    expect(await after.blobPath(a.digest)).not.toBeNull()
  })

  it('keeps a smaller budget than the last start’s from its beginning', async () => {
    const before = createDiskCache(folder, 10_000)
    for (let i = 0; i < 8; i++) {
      const { bytes, digest } = await blob(i)
      await before.putBlob(digest, bytes)
    }
    const after = createDiskCache(folder, 2_500)
    await after.notes('records')
    expect(after.usedBytes).toBe(2_000)
    expect(await bytesOnDisk()).toBe(2_000)
  })

  it('counts what a crash left half written, and sweeps it once nobody can be writing it', async () => {
    await mkdir(join(folder, 'blobs', 'aa'), { recursive: true })
    const [old, young] = ['old', 'young'].map((name) =>
      join(folder, 'blobs', 'aa', `${name}.1.tmp`),
    )
    await writeFile(old!, new Uint8Array(1_000))
    await utimes(old!, new Date(0), new Date(0))
    await writeFile(young!, new Uint8Array(1_000))
    const disk = createDiskCache(folder, 2_500)
    const [a, b] = [await blob(1), await blob(2)]
    await disk.putBlob(a.digest, a.bytes)
    expect(disk.usedBytes).toBe(2_000)
    expect(await readdir(join(folder, 'blobs', 'aa'))).toEqual(['young.1.tmp'])
    await disk.putBlob(b.digest, b.bytes)
    expect(await bytesOnDisk()).toBe(2_000)
    expect(await disk.blobPath(a.digest)).not.toBeNull()
  })

  it('gives the bytes back when the file system refuses', async () => {
    await mkdir(folder, { recursive: true })
    await writeFile(join(folder, 'blobs'), 'a file where a folder must be')
    const disk = createDiskCache(folder, 5_000)
    const { bytes, digest } = await blob(1)
    await expect(disk.putBlob(digest, bytes)).rejects.toMatchObject({ code: 'ENOTDIR' })
    expect(disk.usedBytes).toBe(29)
  })

  it('refuses what it can never hold by its size, and evicts nothing for it', async () => {
    const disk = createDiskCache(folder, 1_500)
    const { bytes, digest } = await blob(1)
    await disk.putBlob(digest, bytes)
    const large = new Uint8Array(2_000)
    await expect(disk.putBlob(await sha256(large), large)).rejects.toThrow(
      /a file of the disk tier must be "?at most 1500 bytes/,
    )
    expect(await disk.blobPath(digest)).not.toBeNull()
  })

  it('takes a file that somebody removed for absent', async () => {
    const disk = createDiskCache(folder, 1_500)
    const { bytes, digest } = await blob(1)
    await disk.putBlob(digest, bytes)
    await rm((await disk.blobPath(digest))!)
    expect(await disk.blobPath(digest)).toBeNull()
    expect([disk.has(digest), disk.usedBytes]).toEqual([false, 0])
  })
})

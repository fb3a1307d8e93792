import { createHash, randomBytes } from 'node:crypto'
import type { BlobStore, Bytes } from '@graft/registry/stores/blob-store.ts'
import { readAll } from '@graft/registry/stores/blob-store.ts'
import { type Catalogue, first, sql } from '@graft/registry/stores/catalogue.ts'
import type { Digest } from '@graft/sdk/format/digest.ts'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'

const digestOf = (bytes: Uint8Array): Digest =>
  `sha256:${createHash('sha256').update(bytes).digest('hex')}` as Digest

const CHUNK_BYTES = 64 * 1024
/** The smallest part that S3 joins. */
const PART_BYTES = 5 * 1024 * 1024

/** Bytes as a network brings them: in chunks, one at a time. */
const chunked = (bytes: Uint8Array, breakAt = Number.POSITIVE_INFINITY): Bytes => {
  let at = 0
  return new ReadableStream({
    pull(controller) {
      if (at >= breakAt) return controller.error(new Error('the connection broke'))
      if (at >= bytes.length) return controller.close()
      controller.enqueue(bytes.slice(at, at + CHUNK_BYTES))
      at += CHUNK_BYTES
    },
  })
}

const bytesOf = async (body: Bytes | null): Promise<Uint8Array | null> =>
  body && readAll(body, 16 * 1024 * 1024, 'test')

/** What every BlobStore promises. `prepare` gives an empty one. */
export const blobStoreContract = (
  name: string,
  prepare: () => Promise<{ blobs: BlobStore; close(): Promise<void> }>,
) =>
  describe(`blob store: ${name}`, () => {
    let store: Awaited<ReturnType<typeof prepare>>
    let blobs: BlobStore
    beforeAll(async () => {
      store = await prepare()
      blobs = store.blobs
    })
    afterAll(() => store.close())
    const some = (size: number) => {
      const bytes = new Uint8Array(randomBytes(size))
      return { bytes, digest: digestOf(bytes), size }
    }

    it('is null for a digest never stored', async () => {
      const { digest } = some(8)
      expect(await blobs.get(digest)).toBeNull()
      expect(await blobs.head(digest)).toBeNull()
      expect(await blobs.getStaged('u-none', digest)).toBeNull()
    })

    it('keeps what was staged out of sight until it is promoted', async () => {
      const { bytes, digest, size } = some(300_000)
      await blobs.stage('u1', digest, size, chunked(bytes))
      expect(await bytesOf(await blobs.getStaged('u1', digest))).toEqual(bytes)
      expect(await blobs.getStaged('u2', digest)).toBeNull()
      expect(await blobs.head(digest)).toBeNull()
      await blobs.promote('u1', digest)
      expect(await blobs.head(digest)).toBe(size)
      expect(await bytesOf(await blobs.get(digest))).toEqual(bytes)
    })

    it('promotes and stages twice as once, and promotes what another upload staged too', async () => {
      const { bytes, digest, size } = some(100)
      for (const upload of ['u3', 'u3', 'u4'])
        await blobs.stage(upload, digest, size, chunked(bytes))
      for (const upload of ['u3', 'u3', 'u4']) await blobs.promote(upload, digest)
      expect(await bytesOf(await blobs.get(digest))).toEqual(bytes)
    })

    it('refuses other bytes, fewer and more than promised, and keeps nothing of them', async () => {
      const { bytes, digest, size } = some(200_000)
      const other = some(200_000).bytes
      const wrong = { code: 'ERR_DIGEST_MISMATCH' }
      await expect(blobs.stage('u5', digest, size, chunked(other))).rejects.toMatchObject(wrong)
      const short = chunked(bytes.subarray(0, size - 1))
      await expect(blobs.stage('u5', digest, size, short)).rejects.toMatchObject(wrong)
      const long = chunked(new Uint8Array([...bytes, 0]))
      await expect(blobs.stage('u5', digest, size, long)).rejects.toMatchObject(wrong)
      expect(await blobs.getStaged('u5', digest)).toBeNull()
    })

    it('keeps nothing of a connection that broke, and takes the whole file afterwards', async () => {
      const { bytes, digest, size } = some(400_000)
      await expect(blobs.stage('u6', digest, size, chunked(bytes, 200_000))).rejects.toThrow()
      expect(await blobs.getStaged('u6', digest)).toBeNull()
      await blobs.stage('u6', digest, size, chunked(bytes))
      expect(await bytesOf(await blobs.getStaged('u6', digest))).toEqual(bytes)
    })

    it('fails to promote what was never staged, and then holds nothing', async () => {
      const { digest } = some(10)
      await expect(blobs.promote('u7', digest)).rejects.toThrow()
      expect(await blobs.head(digest)).toBeNull()
    })

    it('discards an upload and nothing else', async () => {
      const [a, b] = [some(10), some(20)]
      await blobs.stage('u8', a.digest, a.size, chunked(a.bytes))
      await blobs.stage('u8', b.digest, b.size, chunked(b.bytes))
      await blobs.stage('u8-other', a.digest, a.size, chunked(a.bytes))
      await blobs.promote('u8', b.digest)
      await blobs.discard('u8')
      await blobs.discard('u8')
      expect(await blobs.getStaged('u8', a.digest)).toBeNull()
      expect(await bytesOf(await blobs.getStaged('u8-other', a.digest))).toEqual(a.bytes)
      expect(await bytesOf(await blobs.get(b.digest))).toEqual(b.bytes)
    })

    it('gives exactly the range that was asked for', async () => {
      const { bytes, digest, size } = some(200_000)
      await blobs.stage('u9', digest, size, chunked(bytes))
      await blobs.promote('u9', digest)
      for (const [start, end] of [
        [0, 1],
        [99_999, 150_001],
        [size - 1, size],
      ] as const)
        expect(await bytesOf(await blobs.get(digest, { start, end }))).toEqual(
          bytes.subarray(start, end),
        )
    })

    it('takes a file of many parts, and refuses it whole when its last byte is wrong', async () => {
      const { bytes, digest, size } = some(9_000_001)
      const other = Uint8Array.from(bytes)
      other[size - 1]! ^= 1
      await expect(blobs.stage('u12', digest, size, chunked(other))).rejects.toMatchObject({
        code: 'ERR_DIGEST_MISMATCH',
      })
      expect(await blobs.getStaged('u12', digest)).toBeNull()
      await blobs.stage('u12', digest, size, chunked(bytes))
      await blobs.promote('u12', digest)
      const back = await bytesOf(await blobs.get(digest))
      expect(back?.length).toBe(size)
      expect(digestOf(back!)).toBe(digest)
    })

    it('joins the parts of a blob, however often and in whatever order they came', async () => {
      const { bytes, digest, size } = some(2 * PART_BYTES + 1234)
      const put = (number: number, from = bytes) => {
        const part = from.subarray((number - 1) * PART_BYTES, number * PART_BYTES)
        return blobs.putPart('u13', digest, number, part.length, chunked(part))
      }
      expect(await blobs.listParts('u13', digest)).toEqual([])
      await put(3)
      await put(1, new Uint8Array(size))
      await put(1)
      const [first, last] = [
        { number: 1, size: PART_BYTES },
        { number: 3, size: 1234 },
      ]
      expect(await blobs.listParts('u13', digest)).toEqual([first, last])
      expect(await blobs.getStaged('u13', digest)).toBeNull()
      expect(await blobs.listStaging()).toContain('u13')
      await put(2)
      await blobs.joinParts('u13', digest, size, 3)
      const staged = await bytesOf(await blobs.getStaged('u13', digest))
      expect(staged && digestOf(staged)).toBe(digest)
      expect(
        await bytesOf(
          await blobs.getStaged('u13', digest, { start: PART_BYTES - 2, end: PART_BYTES + 2 }),
        ),
      ).toEqual(bytes.subarray(PART_BYTES - 2, PART_BYTES + 2))
      await blobs.promote('u13', digest)
      expect(await blobs.head(digest)).toBe(size)
      await blobs.discard('u13')
      expect(await blobs.listParts('u13', digest)).toEqual([])
      expect(await blobs.listStaging()).not.toContain('u13')
    })

    it('keeps nothing of a part that broke off or has another size', async () => {
      const { bytes, digest, size } = some(300_000)
      const wrong = { code: 'ERR_DIGEST_MISMATCH' }
      const put = (part: Uint8Array, breakAt?: number) =>
        blobs.putPart('u14', digest, 1, size, chunked(part, breakAt))
      await expect(put(bytes, 200_000)).rejects.toThrow()
      await expect(put(bytes.subarray(1))).rejects.toMatchObject(wrong)
      await expect(put(new Uint8Array([...bytes, 0]))).rejects.toMatchObject(wrong)
      expect(await blobs.listParts('u14', digest)).toEqual([])
    })

    it('refuses parts that are not the blob, and takes the right ones afterwards', async () => {
      const { bytes, digest, size } = some(PART_BYTES + 10)
      const other = Uint8Array.from(bytes)
      other[size - 1]! ^= 1
      const put = async (from: Uint8Array) => {
        for (const [i, part] of [from.subarray(0, PART_BYTES), from.subarray(PART_BYTES)].entries())
          await blobs.putPart('u15', digest, i + 1, part.length, chunked(part))
      }
      await put(other)
      const join = () => blobs.joinParts('u15', digest, size, 2)
      await expect(join()).rejects.toMatchObject({ code: 'ERR_DIGEST_MISMATCH' })
      expect(await blobs.getStaged('u15', digest)).toBeNull()
      expect(await blobs.listParts('u15', digest)).toEqual([])
      await expect(join()).rejects.toThrow()
      await put(bytes)
      await join()
      expect((await bytesOf(await blobs.getStaged('u15', digest)))?.length).toBe(size)
    })

    it('hands out an address that takes one part of just this size, where it hands out any', async () => {
      if (!blobs.presignPart) return
      const { bytes, digest, size } = some(100_000)
      const url = await blobs.presignPart('u16', digest, 1, size, 60)
      const put = (body: Uint8Array, to = url) =>
        fetch(to, { method: 'PUT', body: body as Uint8Array<ArrayBuffer> })
      expect((await put(bytes.subarray(1))).ok).toBe(false)
      const forged = url.replace(/.$/, (c) => (c === '0' ? '1' : '0'))
      expect((await put(bytes, forged)).ok).toBe(false)
      expect((await put(bytes, url.replace('.parts/1?', '.parts/2?'))).ok).toBe(false)
      expect(await blobs.listParts('u16', digest)).toEqual([])
      expect((await put(bytes)).ok).toBe(true)
      expect(await blobs.listParts('u16', digest)).toEqual([{ number: 1, size }])
    })

    it('holds an empty blob', async () => {
      const { bytes, digest } = some(0)
      await blobs.stage('u10', digest, 0, chunked(bytes))
      await blobs.promote('u10', digest)
      expect(await blobs.head(digest)).toBe(0)
      expect(await bytesOf(await blobs.get(digest))).toEqual(bytes)
    })

    it('forgets a deleted blob', async () => {
      const { bytes, digest, size } = some(30)
      await blobs.stage('u11', digest, size, chunked(bytes))
      await blobs.promote('u11', digest)
      await blobs.delete(digest)
      await blobs.delete(digest)
      expect(await blobs.get(digest)).toBeNull()
    })
  })

/** What every Catalogue promises, on the registry's own tables. `prepare` gives a migrated, empty one. */
export const catalogueContract = (
  name: string,
  prepare: () => Promise<{ catalogue: Catalogue; close(): Promise<void> }>,
) =>
  describe(`catalogue: ${name}`, () => {
    let store: Awaited<ReturnType<typeof prepare>>
    let catalogue: Catalogue
    beforeAll(async () => {
      store = await prepare()
      catalogue = store.catalogue
    })
    afterAll(() => store.close())
    const org = (n: string) => sql('INSERT INTO orgs (name, created_at) VALUES (?, ?)', n, 'now')
    const names = async () =>
      (await catalogue.query<{ name: string }>('SELECT name FROM orgs ORDER BY name')).map(
        (row) => row.name,
      )

    it('commits a batch in order and counts the rows that each statement changed', async () => {
      const changed = await catalogue.batch([
        org('a'),
        org('b'),
        sql('UPDATE orgs SET epoch = epoch + 1'),
        sql('UPDATE orgs SET epoch = 9 WHERE name = ?', 'nobody'),
      ])
      expect(changed).toEqual([1, 1, 2, 0])
      expect(await names()).toEqual(['a', 'b'])
    })

    it('commits nothing of a batch whose last statement fails', async () => {
      await expect(catalogue.batch([org('c'), org('a')])).rejects.toThrow()
      await expect(
        catalogue.batch([org('c'), sql('INSERT INTO nowhere VALUES (1)')]),
      ).rejects.toThrow()
      expect(await names()).toEqual(['a', 'b'])
    })

    it('enforces foreign keys, so that a row can stand guard for the rows after it', async () => {
      const orphan = sql(
        'INSERT INTO packages (name, org, visibility, created_at) VALUES (?, ?, ?, ?)',
        '@nobody/x',
        'nobody',
        'public',
        'now',
      )
      await expect(catalogue.batch([org('d'), orphan])).rejects.toThrow()
      expect(await names()).toEqual(['a', 'b'])
    })

    it('keeps null, text beyond ASCII and integers up to 2^53 as they are', async () => {
      const large = Number.MAX_SAFE_INTEGER
      const text = 'Ünïcødé 🦀 "quoted"'
      await catalogue.batch([
        sql('INSERT INTO orgs (name, epoch, created_at) VALUES (?, ?, ?)', 'e', large, text),
      ])
      const row = await first(
        catalogue,
        'SELECT epoch, created_at, ? AS absent FROM orgs WHERE name = ?',
        null,
        'e',
      )
      expect(row).toEqual({ epoch: large, created_at: text, absent: null })
    })

    it('is null where there is no row', async () => {
      expect(await first(catalogue, 'SELECT name FROM orgs WHERE name = ?', 'zz')).toBeNull()
    })

    it('runs batches that come at once one after the other', async () => {
      await catalogue.batch([sql('UPDATE orgs SET epoch = 1')])
      const raise = () =>
        catalogue.batch([sql(`UPDATE orgs SET epoch = epoch + 1 WHERE name = 'a'`)])
      await Promise.all(Array.from({ length: 20 }, raise))
      expect(await first(catalogue, `SELECT epoch FROM orgs WHERE name = 'a'`)).toEqual({
        epoch: 21,
      })
    })
  })

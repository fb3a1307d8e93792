import { open } from 'node:fs/promises'
import type { ByteSource } from '@graft/sdk/format/byte-source.ts'

/** A file by ranges. */
export async function fileSource(path: string): Promise<ByteSource & AsyncDisposable> {
  const file = await open(path)
  const { size } = await file.stat()
  return {
    size,
    async read(begin, end, room) {
      const length = Math.max(0, Math.min(end, size) - begin)
      const bytes = room?.subarray(0, length) ?? new Uint8Array(length)
      let at = 0
      while (at < bytes.length) {
        const { bytesRead } = await file.read(bytes, at, bytes.length - at, begin + at)
        if (bytesRead === 0) return bytes.subarray(0, at)
        at += bytesRead
      }
      return bytes
    },
    [Symbol.asyncDispose]: () => file.close(),
  }
}

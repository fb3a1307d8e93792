import { type ByteSource, heldBytes, readRange } from '@graft/sdk/format/byte-source.ts'

/** Parts that follow each other without a gap, as one source that is never held whole. */
export function joinSources(parts: readonly (ByteSource | Uint8Array)[]): ByteSource {
  let size = 0
  const placed = parts.map((part) => {
    const data = part instanceof Uint8Array ? heldBytes(part) : part
    const begin = size
    size += data.size
    return { begin, end: size, data }
  })
  return {
    size,
    async read(begin, end) {
      const out = new Uint8Array(Math.max(0, Math.min(end, size) - begin))
      for (const part of placed) {
        const from = Math.max(begin, part.begin)
        const to = Math.min(end, part.end)
        if (from < to)
          out.set(await readRange(part.data, from - part.begin, to - part.begin), from - begin)
      }
      return out
    },
  }
}

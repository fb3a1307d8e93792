import { type ByteSource, heldBytes, readRange } from './byte-source.ts'

/** Fills `target`, unless the source has done so by itself. */
async function readInto(
  source: ByteSource,
  begin: number,
  end: number,
  target: Uint8Array,
): Promise<void> {
  const bytes = await readRange(source, begin, end, target)
  if (bytes.buffer !== target.buffer || bytes.byteOffset !== target.byteOffset) target.set(bytes)
}

/** Parts that follow each other without a gap, as one source that is never held whole. */
export function joinSources(pieces: readonly (ByteSource | Uint8Array)[]): ByteSource {
  let size = 0
  const placed = pieces.map((piece) => {
    const data = piece instanceof Uint8Array ? heldBytes(piece) : piece
    const begin = size
    size += data.size
    return { begin, end: size, data }
  })
  /** The first part that ends behind `offset`. */
  const partAt = (offset: number): number => {
    let [low, high] = [0, placed.length]
    while (low < high) {
      const middle = (low + high) >> 1
      if (placed[middle]!.end > offset) high = middle
      else low = middle + 1
    }
    return low
  }
  return {
    size,
    parts: placed.map(({ data }) => data),
    async read(from, to, room) {
      const [begin, end] = [from, Math.min(to, size)]
      if (begin >= end) return new Uint8Array(0)
      let i = partAt(begin)
      const first = placed[i]!
      if (end <= first.end)
        return readRange(first.data, begin - first.begin, end - first.begin, room)
      const out = room?.subarray(0, end - begin) ?? new Uint8Array(end - begin)
      for (let at = begin; at < end; i++) {
        const part = placed[i]!
        const stop = Math.min(end, part.end)
        if (stop > at)
          await readInto(
            part.data,
            at - part.begin,
            stop - part.begin,
            out.subarray(at - begin, stop - begin),
          )
        at = Math.max(at, stop)
      }
      return out
    },
  }
}

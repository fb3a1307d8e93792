import { expected, GraftError } from './errors.ts'

/** Bytes that are read by ranges: a file, a blob, or something computed when it is asked for. */
export interface ByteSource {
  readonly size: number
  /**
   * Bytes [begin, end); the result may be a view of shared memory and is not written to.
   * @param room at least as long, which the source may fill and return a view of instead of taking memory of its own
   */
  read(begin: number, end: number, room?: Uint8Array): Promise<Uint8Array>
  /** Where the bytes come from, when they are a range of another source. */
  readonly range?: { of: ByteSource; begin: number }
  /** Sources that it is made of, one after the other without a gap. */
  readonly parts?: readonly ByteSource[]
}

/** Large enough that a call per chunk costs nothing, small beside a Worker's memory. */
export const CHUNK_BYTES = 1024 * 1024

export const heldBytes = (bytes: Uint8Array): ByteSource => ({
  size: bytes.length,
  read: async (begin, end) => bytes.subarray(begin, end),
})

/** A range of another source. */
export const sliceOf = (source: ByteSource, begin: number, end: number): ByteSource => ({
  size: end - begin,
  read: (from, to, room) => source.read(begin + from, begin + to, room),
  range: { of: source, begin },
})

/** @throws ERR_REQUEST_INVALID when the source ends early */
export async function readRange(
  source: ByteSource,
  begin: number,
  end: number,
  room?: Uint8Array,
): Promise<Uint8Array> {
  const bytes = await source.read(begin, end, room)
  if (bytes.length === end - begin) return bytes
  throw new GraftError(
    'ERR_REQUEST_INVALID',
    expected(`bytes ${begin} to ${end} of ${source.size}`, `${end - begin} bytes`, bytes.length),
  )
}

export const readAll = (source: ByteSource): Promise<Uint8Array> =>
  readRange(source, 0, source.size)

/**
 * All of a source in order, in pieces of at most a chunk.
 * @param room of CHUNK_BYTES: every piece may then lie in it, and holds only until the next one is asked for
 */
export async function* chunksOf(source: ByteSource, room?: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < source.size; at += CHUNK_BYTES)
    yield await readRange(source, at, Math.min(at + CHUNK_BYTES, source.size), room)
}

/** Whether two sources hold the same bytes. What is the same range of the same source is not read. */
export async function sameBytes(a: ByteSource, b: ByteSource): Promise<boolean> {
  if (a.size !== b.size) return false
  if (a === b || (a.range?.of === b && a.range.begin === 0)) return true
  if (a.range && b.range && a.range.of === b.range.of && a.range.begin === b.range.begin)
    return true
  if (a.parts) {
    let at = 0
    for (const part of a.parts) {
      if (!(await sameBytes(part, rangeOf(b, at, at + part.size)))) return false
      at += part.size
    }
    return true
  }
  // Parts are compared by themselves, and most are small.
  const most = Math.min(CHUNK_BYTES, a.size)
  const [room, other] = [new Uint8Array(most), new Uint8Array(most)]
  for (let at = 0; at < a.size; at += CHUNK_BYTES) {
    const end = Math.min(at + CHUNK_BYTES, a.size)
    const [x, y] = await Promise.all([readRange(a, at, end, room), readRange(b, at, end, other)])
    if (!equalBytes(x, y)) return false
  }
  return true
}

/** A range of a source, seen as a range of what that is itself a range of. */
const rangeOf = (source: ByteSource, begin: number, end: number): ByteSource =>
  source.range
    ? sliceOf(source.range.of, source.range.begin + begin, source.range.begin + end)
    : sliceOf(source, begin, end)

/** Words at a time where both are aligned: a byte at a time is slow over hundreds of megabytes. */
export function equalBytes(x: Uint8Array, y: Uint8Array): boolean {
  if (x.length !== y.length) return false
  let at = 0
  if (x.byteOffset % 4 === 0 && y.byteOffset % 4 === 0) {
    const words = x.length >> 2
    const a = new Uint32Array(x.buffer, x.byteOffset, words)
    const b = new Uint32Array(y.buffer, y.byteOffset, words)
    for (let i = 0; i < words; i++) if (a[i] !== b[i]) return false
    at = words * 4
  }
  for (; at < x.length; at++) if (x[at] !== y[at]) return false
  return true
}

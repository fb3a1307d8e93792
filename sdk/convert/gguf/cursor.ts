import { expected, GraftError } from '@graft/sdk/format/errors.ts'

/** GGUF has no code of its own: what is broken is what stands before the weights. */
export const invalid = (message: string): GraftError =>
  new GraftError('ERR_CONFIG_INVALID', `GGUF: ${message}`)

/** More of the file is needed than was read so far; never leaves this folder. */
export class NeedsBytes extends Error {
  readonly upTo: number
  constructor(upTo: number) {
    super(`needs the first ${upTo} bytes`)
    this.upTo = upTo
  }
}

/** Reads little-endian values one after the other from the start of a file of which `bytes` are at hand. */
export interface Cursor {
  at(): number
  /** Bytes of the file that are left. */
  left(): number
  u32(what: string): number
  /** @throws ERR_CONFIG_INVALID beyond 2^53, which no honest count or size is */
  count(what: string): number
  /** A count of things of at least `each` bytes, which must fit into the rest of the file. */
  countOf(each: number, what: string): number
  text(most: number, what: string): string
  view(bytes: number, what: string): DataView
  skip(bytes: number, what: string): void
}

export function createCursor(bytes: Uint8Array, fileSize: number): Cursor {
  const all = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
  let at = 0
  /** Steps over the next bytes. @returns where they begin */
  const step = (length: number, what: string): number => {
    if (length > fileSize - at)
      throw invalid(expected(what, `${length} bytes at ${at}, inside the file`, fileSize))
    if (at + length > bytes.length) throw new NeedsBytes(at + length)
    at += length
    return at - length
  }
  const count = (what: string): number => {
    const value = all.getBigUint64(step(8, what), true)
    if (value <= BigInt(Number.MAX_SAFE_INTEGER)) return Number(value)
    throw invalid(expected(what, 'below 2^53', String(value)))
  }
  return {
    at: () => at,
    left: () => fileSize - at,
    u32: (what) => all.getUint32(step(4, what), true),
    count,
    countOf(each, what) {
      const value = count(what)
      if (value * each <= fileSize - at) return value
      throw invalid(
        expected(
          what,
          `at most ${Math.floor((fileSize - at) / each)}, as the file has room for`,
          value,
        ),
      )
    },
    text(most, what) {
      const length = count(`${what}: length`)
      if (length > most) throw invalid(expected(what, `at most ${most} bytes long`, length))
      const begin = step(length, what)
      try {
        return utf8.decode(bytes.subarray(begin, begin + length))
      } catch {
        throw invalid(`${what} must be UTF-8`)
      }
    },
    view: (length, what) =>
      new DataView(bytes.buffer, bytes.byteOffset + step(length, what), length),
    skip: (length, what) => void step(length, what),
  }
}

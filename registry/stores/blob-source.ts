import type { ByteSource } from '@graft/sdk/format/byte-source.ts'
import type { ByteRange, Bytes } from './blob-store.ts'

/** Bytes that are cheaper to read and drop than a new request. */
const MAX_SKIP_BYTES = 256 * 1024

/** Bytes of one read where the stream takes our memory. */
const CHUNK_BYTES = 256 * 1024

interface Reader {
  /** A chunk, which holds until the next one is asked for; null at the end. */
  read(): Promise<Uint8Array<ArrayBuffer> | null>
  cancel(): Promise<void>
}

/** Through one piece of memory where the stream is a byte stream (files, R2); as the chunks come where it is not (S3). */
function readerOf(stream: Bytes): Reader {
  const byob = byobReader(stream)
  if (byob === null) {
    const reader = stream.getReader()
    return {
      read: async () => ((await reader.read()).value ?? null) as Uint8Array<ArrayBuffer> | null,
      cancel: () => reader.cancel(),
    }
  }
  let room = new ArrayBuffer(CHUNK_BYTES)
  return {
    async read() {
      const { value, done } = await byob.read(new Uint8Array(room))
      if (value) room = value.buffer as ArrayBuffer
      return done || !value ? null : (value as Uint8Array<ArrayBuffer>)
    },
    cancel: () => byob.cancel(),
  }
}

function byobReader(stream: Bytes): ReadableStreamBYOBReader | null {
  try {
    return stream.getReader({ mode: 'byob' })
  } catch {
    // Not a byte stream.
    return null
  }
}

/**
 * A stored blob by ranges, as verification reads it: mostly forwards, so one stream serves many reads and is opened anew
 * only to go back or far ahead. Holds one chunk of the stream.
 */
export function blobSource(
  size: number,
  open: (range: ByteRange) => Promise<Bytes>,
): ByteSource & AsyncDisposable {
  let reader: Reader | null = null
  let at = 0
  let held = new Uint8Array()
  let turn: Promise<unknown> = Promise.resolve()

  async function close(): Promise<void> {
    const open = reader
    reader = null
    held = new Uint8Array()
    // A stream that broke has nothing left to cancel.
    await open?.cancel().catch(() => {})
  }

  /** Up to `most` bytes at `at`; empty at the stream's end. */
  async function take(most: number): Promise<Uint8Array> {
    while (held.length === 0) {
      const value = await reader!.read()
      if (value === null) return held
      held = value
    }
    const some = held.subarray(0, most)
    held = held.subarray(some.length)
    at += some.length
    return some
  }

  async function read(begin: number, end: number, room?: Uint8Array): Promise<Uint8Array> {
    const length = Math.max(0, Math.min(end, size) - begin)
    const bytes = room?.subarray(0, length) ?? new Uint8Array(length)
    if (reader === null || begin < at || begin > at + MAX_SKIP_BYTES) {
      await close()
      reader = readerOf(await open({ start: begin, end: size }))
      at = begin
    }
    while (at < begin) if ((await take(begin - at)).length === 0) break
    let filled = 0
    while (filled < length) {
      const some = await take(length - filled)
      if (some.length === 0) break
      bytes.set(some, filled)
      filled += some.length
    }
    return bytes.subarray(0, filled)
  }

  return {
    size,
    // One read after the other: they share the stream.
    read(begin, end, room) {
      if (end <= begin) return Promise.resolve(new Uint8Array())
      const mine = turn.then(() => read(begin, end, room))
      turn = mine.catch(() => {})
      return mine
    },
    [Symbol.asyncDispose]: close,
  }
}

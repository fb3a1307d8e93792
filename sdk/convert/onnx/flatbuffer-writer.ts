import type { ByteSource } from '@graft/sdk/format/byte-source.ts'
import { joinSources } from '@graft/sdk/format/join-sources.ts'

/*
 * Lays a FlatBuffer out byte for byte as Google's C++ builder does: from its end to its start. A place is the number of bytes
 * from there to the end, so that it holds while more is put in front.
 */

export interface FlatWriter {
  text(value: string): number
  int64s(values: readonly number[]): number
  bytes(data: ByteSource): number
  /** A vector of tables. */
  tables(places: readonly number[]): number
  /**
   * A table of fields of 4 bytes, the last first, as the generated code adds them; a scalar of 0 is the default and left out.
   * Tables of the same layout share one vtable.
   */
  table(fields: readonly ({ int32: number } | { place: number })[]): number
  finish(root: number, identifier: readonly number[]): ByteSource
}

const u32 = (value: number): Uint8Array => {
  const bytes = new Uint8Array(4)
  new DataView(bytes.buffer).setUint32(0, value, true)
  return bytes
}

export function createFlatWriter(): FlatWriter {
  /** Last part first. */
  const parts: (ByteSource | Uint8Array)[] = []
  const vtables = new Map<string, number>()
  let size = 0
  let largest = 1
  const push = (part: ByteSource | Uint8Array): number => {
    parts.push(part)
    size += part instanceof Uint8Array ? part.length : part.size
    return size
  }
  /** Zeros such that, once `length` more bytes stand in front, the place is a multiple of `to`. */
  const align = (length: number, to: number): void => {
    largest = Math.max(largest, to)
    const rest = (size + length) % to
    if (rest > 0) push(new Uint8Array(to - rest))
  }
  const number = (value: number): number => {
    align(0, 4)
    return push(u32(value))
  }
  const refer = (place: number): number => {
    align(0, 4)
    return number(size - place + 4)
  }
  return {
    text(value) {
      const bytes = new TextEncoder().encode(value)
      align(bytes.length + 1, 4)
      push(new Uint8Array(1))
      push(bytes)
      return number(bytes.length)
    },
    int64s(values) {
      align(values.length * 8, 4)
      align(values.length * 8, 8)
      push(new Uint8Array(BigInt64Array.from(values, BigInt).buffer))
      return number(values.length)
    },
    bytes(data) {
      align(data.size, 4)
      push(data)
      return number(data.size)
    },
    tables(places) {
      align(places.length * 4, 4)
      for (const place of [...places].reverse()) refer(place)
      return number(places.length)
    },
    table(fields) {
      const begin = size
      const added: (number | null)[] = fields.map(() => null)
      for (let i = fields.length - 1; i >= 0; i--) {
        const field = fields[i]!
        if ('place' in field) added[i] = refer(field.place)
        else if (field.int32 !== 0) added[i] = number(field.int32)
      }
      align(0, 4)
      // Its own place is known, that of its vtable only when that is written or found.
      const own = size + 4
      const last = added.findLastIndex((place) => place !== null)
      const entries = added.slice(0, last + 1).map((place) => (place === null ? 0 : own - place))
      const vtable = Uint16Array.of(4 + 2 * entries.length, own - begin, ...entries)
      const known = vtables.get(vtable.join())
      const at = known ?? own + vtable.byteLength
      push(u32(at - own))
      if (known === undefined) vtables.set(vtable.join(), push(new Uint8Array(vtable.buffer)))
      return own
    },
    finish(root, identifier) {
      align(4 + identifier.length, largest)
      push(Uint8Array.from(identifier))
      refer(root)
      return joinSources(parts.reverse())
    },
  }
}

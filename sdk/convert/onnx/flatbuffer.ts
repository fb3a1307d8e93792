import { type ByteSource, readRange } from '@graft/sdk/format/byte-source.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'

/** As much of FlatBuffers' binary format as one table of scalars, strings, vectors and tables needs, with every bound checked. */

export const invalid = (message: string): GraftError =>
  new GraftError('ERR_CONFIG_INVALID', `.onnx_adapter: ${message}`)

/** A table's fields by their number in the schema. */
export interface FlatTable {
  /** 0 when absent. */
  int32(field: number, what: string): Promise<number>
  /** '' when absent. */
  text(field: number, most: number, what: string): Promise<string>
  int64s(field: number, most: number, what: string): Promise<number[]>
  /** Where a vector of bytes lies in the file. */
  bytes(field: number, what: string): Promise<{ begin: number; end: number }>
  tables(field: number, what: string): Promise<FlatTable[]>
}

const LENGTH_BYTES = 4

/** Everything is aligned to its own size; FlatBuffers' verifier refuses what is not. */
function aligned(at: number, to: number, what: string): number {
  if (at % to === 0) return at
  throw invalid(expected(what, `at a multiple of ${to}`, at))
}

/** Offsets are within 2 GB (FlatBuffers' own limit), and each is read where it stands. */
function reader(source: ByteSource) {
  const view = async (at: number, size: number, what: string): Promise<DataView> => {
    if (at < 0 || at + size > source.size)
      throw invalid(expected(what, `${size} bytes inside the file`, at))
    const bytes = await readRange(source, at, at + size)
    return new DataView(bytes.buffer, bytes.byteOffset, size)
  }
  return {
    view,
    u16: async (at: number, what: string) => (await view(at, 2, what)).getUint16(0, true),
    u32: async (at: number, what: string) => (await view(at, 4, what)).getUint32(0, true),
    i32: async (at: number, what: string) => (await view(at, 4, what)).getInt32(0, true),
  }
}

async function openTable(source: ByteSource, at: number, where: string): Promise<FlatTable> {
  const read = reader(source)
  const vtable = aligned(at, 4, where) - (await read.i32(at, where))
  aligned(vtable, 2, `${where}: vtable`)
  const vtableBytes = await read.u16(vtable, `${where}: vtable`)
  const tableBytes = await read.u16(vtable + 2, `${where}: vtable`)
  if (vtableBytes < 4 || vtableBytes % 2 !== 0 || vtable + vtableBytes > source.size)
    throw invalid(expected(`${where}: size of the vtable`, 'even and inside the file', vtableBytes))
  if (tableBytes < 4 || at + tableBytes > source.size)
    throw invalid(expected(`${where}: size of the table`, 'inside the file', tableBytes))

  /** Where a field of 4 bytes stands; null when the table lacks it. */
  const placeOf = async (field: number, what: string): Promise<number | null> => {
    const entry = 4 + 2 * field
    if (entry + 2 > vtableBytes) return null
    const offset = await read.u16(vtable + entry, what)
    if (offset === 0) return null
    if (offset < 4 || offset + 4 > tableBytes)
      throw invalid(expected(`${what}: its place`, 'inside its table', offset))
    return aligned(at + offset, 4, what)
  }
  const follow = async (place: number, what: string): Promise<number> => {
    const offset = await read.u32(place, what)
    if (offset === 0) throw invalid(`${what}: its offset must not be 0`)
    return place + offset
  }
  /** What an offset field points at; null when absent. */
  const target = async (field: number, what: string): Promise<number | null> => {
    const place = await placeOf(field, what)
    return place === null ? null : follow(place, what)
  }
  /** A vector's items of `width` bytes: where they begin and how many there are. */
  const vector = async (field: number, width: number, what: string) => {
    const found = await target(field, what)
    if (found === null) return { begin: 0, count: 0 }
    const count = await read.u32(aligned(found, LENGTH_BYTES, what), `${what}: length`)
    const begin = found + LENGTH_BYTES
    aligned(begin, width, what)
    if (begin + count * width <= source.size) return { begin, count }
    throw invalid(expected(`${what}: length`, 'inside the file', count))
  }

  return {
    async int32(field, what) {
      const place = await placeOf(field, what)
      return place === null ? 0 : read.i32(place, what)
    },
    async text(field, most, what) {
      const { begin, count } = await vector(field, 1, what)
      if (count > most) throw invalid(expected(what, `at most ${most} bytes long`, count))
      if (count === 0) return ''
      const end = (await read.view(begin + count, 1, what)).getUint8(0)
      if (end !== 0) throw invalid(expected(what, 'to end with a zero', end))
      const bytes = await readRange(source, begin, begin + count)
      try {
        return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
      } catch {
        throw invalid(`${what} must be UTF-8`)
      }
    },
    async int64s(field, most, what) {
      const { begin, count } = await vector(field, 8, what)
      if (count > most) throw invalid(expected(what, `at most ${most} of them`, count))
      const items = await read.view(begin, count * 8, what)
      return Array.from({ length: count }, (_, i) => Number(items.getBigInt64(i * 8, true)))
    },
    async bytes(field, what) {
      const { begin, count } = await vector(field, 1, what)
      return { begin, end: begin + count }
    },
    async tables(field, what) {
      const { begin, count } = await vector(field, 4, what)
      const tables: FlatTable[] = []
      for (let i = 0; i < count; i++) {
        const to = await follow(begin + 4 * i, `${what}[${i}]`)
        tables.push(await openTable(source, to, `${what}[${i}]`))
      }
      return tables
    },
  }
}

/** The root table. @throws ERR_CONFIG_INVALID */
export async function openFlatbuffer(source: ByteSource): Promise<FlatTable> {
  return openTable(source, await reader(source).u32(0, 'the root'), 'the root')
}

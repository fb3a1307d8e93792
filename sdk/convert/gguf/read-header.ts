import { expected } from '@graft/sdk/format/errors.ts'
import { type Cursor, createCursor, invalid } from './cursor.ts'
import { type GgmlType, ggmlType } from './ggml-types.ts'
import type { GgufValue } from './gguf-value.ts'
import { readValue } from './read-value.ts'

/** "GGUF" in the order of its bytes. */
export const GGUF_MAGIC = [0x47, 0x47, 0x55, 0x46] as const
export const GGUF_VERSION = 3
/** docs/gguf.md: keys are at most 2^16 - 1 bytes. */
const MAX_KEY_BYTES = 65_535
/** docs/gguf.md; llama.cpp's own reader stops one byte earlier, for the terminating zero (GGML_MAX_NAME). */
export const MAX_NAME_BYTES = 64
const MAX_DIMENSIONS = 4
export const DEFAULT_ALIGNMENT = 32
/** A page of any machine; a forged one would make padding of a few bytes a hole of gigabytes. */
const MAX_ALIGNMENT = 65_536

export interface GgufTensor {
  name: string
  type: GgmlType
  /** C order: the reverse of ggml's `ne`. */
  shape: number[]
  /** Byte offsets [begin, end) from the start of the data. */
  begin: number
  end: number
}

export interface GgufHeader {
  metadata: ReadonlyMap<string, GgufValue>
  /** In the order of the file, which is the order of their bytes. */
  tensors: GgufTensor[]
  alignment: number
  /** Where the tensors' data starts in the file. */
  dataStart: number
}

export const padded = (size: number, alignment: number): number =>
  Math.ceil(size / alignment) * alignment

function checkMagic(cursor: Cursor): void {
  const magic = cursor.view(4, 'magic')
  if (!GGUF_MAGIC.every((byte, i) => magic.getUint8(i) === byte))
    throw invalid(expected('magic', '"GGUF"', `0x${magic.getUint32(0).toString(16)}`))
  const version = cursor.u32('version')
  if (version === GGUF_VERSION) return
  if (version % 65_536 === 0)
    throw invalid('the file is big-endian; convert it again without --bigendian')
  throw invalid(
    `${expected('version', `${GGUF_VERSION}`, version)}; convert the adapter again with a current llama.cpp`,
  )
}

function readMetadata(cursor: Cursor, count: number): Map<string, GgufValue> {
  const metadata = new Map<string, GgufValue>()
  for (let i = 0; i < count; i++) {
    const key = cursor.text(MAX_KEY_BYTES, `key ${i}`)
    if (key === '') throw invalid(`key ${i} is empty`)
    if (metadata.has(key)) throw invalid(`key ${key} stands twice`)
    metadata.set(key, readValue(cursor, `key ${key}`))
  }
  return metadata
}

function readAlignment(metadata: ReadonlyMap<string, GgufValue>): number {
  const row = metadata.get('general.alignment')
  if (row === undefined) return DEFAULT_ALIGNMENT
  const { kind, value } = row
  if (kind === 'uint32' && typeof value === 'number' && value >= 8 && value <= MAX_ALIGNMENT)
    if (Number.isInteger(Math.log2(value))) return value
  throw invalid(
    expected('general.alignment', `a uint32 power of two from 8 to ${MAX_ALIGNMENT}`, `${value}`),
  )
}

function readTensor(cursor: Cursor, i: number): Omit<GgufTensor, 'end'> & { bytes: number } {
  const name = cursor.text(MAX_NAME_BYTES, `name of tensor ${i}`)
  if (name === '') throw invalid(`tensor ${i} has no name`)
  const where = `tensor ${JSON.stringify(name)}`
  const dimensions = cursor.u32(`${where}: dimensions`)
  if (dimensions < 1 || dimensions > MAX_DIMENSIONS)
    throw invalid(expected(`${where}: dimensions`, `1 to ${MAX_DIMENSIONS}`, dimensions))
  const ne = Array.from({ length: dimensions }, (_, d) => cursor.count(`${where}: dimension ${d}`))
  const id = cursor.u32(`${where}: type`)
  const type = ggmlType(id)
  if (type === null) throw invalid(expected(`${where}: type`, 'a tensor type of ggml', id))
  const elements = ne.reduce((n, dim) => n * dim, 1)
  if (elements < 1 || !Number.isSafeInteger(elements * type.bytes))
    throw invalid(expected(`${where}: elements`, 'at least one and below 2^53 bytes', ne))
  if (ne[0]! % type.block !== 0)
    throw invalid(
      expected(
        `${where}: row`,
        `a multiple of ${type.block} elements, a block of ${type.name}`,
        ne[0],
      ),
    )
  const begin = cursor.count(`${where}: offset`)
  const bytes = (elements / type.block) * type.bytes
  return { name, type, shape: ne.reverse(), begin, bytes }
}

/** Tensors lie one after the other, each at the next multiple of the alignment, as llama.cpp demands too. */
function place(
  rows: (Omit<GgufTensor, 'end'> & { bytes: number })[],
  alignment: number,
): GgufTensor[] {
  const names = new Set<string>()
  let next = 0
  return rows.map(({ bytes, ...tensor }) => {
    const where = `tensor ${JSON.stringify(tensor.name)}`
    if (names.has(tensor.name)) throw invalid(`${where} stands twice`)
    names.add(tensor.name)
    if (tensor.begin !== next)
      throw invalid(
        `${where} ${tensor.begin < next ? 'overlaps the tensor before it' : 'leaves a gap before it'}: ${expected('its offset', `${next}`, tensor.begin)}`,
      )
    next = padded(tensor.begin + bytes, alignment)
    return { ...tensor, end: tensor.begin + bytes }
  })
}

/** The file ends with its last tensor, padded or not. */
function checkEnd(fileSize: number, end: number, alignment: number): void {
  if (fileSize < end)
    throw invalid(
      `${expected('the file', `${end} bytes as its header says`, fileSize)}: it was cut off`,
    )
  if (fileSize !== end && fileSize !== padded(end, alignment))
    throw invalid(`${fileSize - end} bytes follow the last tensor`)
}

/** Key, type, value; and name, dimensions, one of them, type, offset: the least that each can take. */
const LEAST_KEY_BYTES = 8 + 1 + 4 + 1
const LEAST_TENSOR_BYTES = 8 + 1 + 4 + 8 + 4 + 8

/**
 * Reads GGUF version 3 up to where its tensors' data begins (ggml's docs/gguf.md; what it leaves open is as in llama.cpp's
 * gguf.cpp, whose loader is the only other authority).
 * @param bytes the start of the file, or all of it
 * @param fileSize null when only the header is at hand, and where its data ends is not checked
 * @throws ERR_CONFIG_INVALID naming what is wrong; NeedsBytes when the header is longer than `bytes`
 */
export function parseGgufHeader(
  bytes: Uint8Array,
  fileSize: number | null = bytes.length,
): GgufHeader {
  const cursor = createCursor(bytes, fileSize ?? bytes.length)
  checkMagic(cursor)
  const tensorCount = cursor.countOf(LEAST_TENSOR_BYTES, 'number of tensors')
  const keyCount = cursor.countOf(LEAST_KEY_BYTES, 'number of keys')
  const metadata = readMetadata(cursor, keyCount)
  const alignment = readAlignment(metadata)
  const rows = Array.from({ length: tensorCount }, (_, i) => readTensor(cursor, i))
  const tensors = place(rows, alignment)
  // A file without tensors may end where its header does.
  if (tensors.length > 0)
    cursor.skip(padded(cursor.at(), alignment) - cursor.at(), 'padding before the tensors')
  const dataStart = cursor.at()
  if (fileSize !== null) checkEnd(fileSize, dataStart + (tensors.at(-1)?.end ?? 0), alignment)
  return { metadata, tensors, alignment, dataStart }
}

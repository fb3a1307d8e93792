import { DTYPES, type Dtype, isDtype } from './dtypes.ts'
import { expected, GraftError } from './errors.ts'
import { refuseOtherFormat } from './not-safetensors.ts'
import { type Json, parseStrictJson } from './strict-json.ts'

/** Far above an honest adapter's header; caps what a forged length prefix can make us allocate. */
export const MAX_SAFETENSORS_HEADER_BYTES = 8 * 1024 * 1024

export interface TensorEntry {
  name: string
  dtype: Dtype
  /** C order; [] is a scalar. */
  shape: number[]
  /** Byte offsets [begin, end) from the start of the data. */
  begin: number
  end: number
}

export interface SafetensorsHeader {
  /** In the order of their bytes. */
  tensors: TensorEntry[]
  metadata: Record<string, string>
  /** Where the data starts in the file. */
  dataStart: number
}

export interface Tensor {
  dtype: string
  shape: number[]
  /** Little-endian, C order. */
  data: Uint8Array
}

const invalid = (message: string): GraftError => new GraftError('ERR_SAFETENSORS_INVALID', message)

const isObject = (value: Json | undefined): value is { [key: string]: Json } =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

const isCount = (value: Json | undefined): value is number =>
  typeof value === 'number' && Number.isSafeInteger(value) && value >= 0

/** Bytes that a tensor of this dtype and shape takes. */
export function tensorBytes(dtype: Dtype, shape: readonly number[], where: string): number {
  // In order, as readers with checked arithmetic multiply: a 0 at the end does not undo an overflow before it.
  let elements = 1
  for (const dim of shape) {
    elements *= dim
    if (!Number.isSafeInteger(elements))
      throw invalid(expected(`${where}: size`, 'below 2^53 bits', shape))
  }
  const bits = elements * DTYPES[dtype].bits
  if (!Number.isSafeInteger(bits))
    throw invalid(expected(`${where}: size`, 'below 2^53 bits', shape))
  if (bits % 8 !== 0)
    throw invalid(expected(`${where}: ${dtype} elements`, 'whole bytes together', elements))
  return bits / 8
}

function parseEntry(name: string, json: Json): TensorEntry {
  const where = `tensor ${JSON.stringify(name)}`
  if (!isObject(json)) throw invalid(expected(where, 'an object', json))
  const unknown = Object.keys(json).find((k) => !['dtype', 'shape', 'data_offsets'].includes(k))
  if (unknown !== undefined)
    throw invalid(expected(where, 'dtype, shape and data_offsets only', unknown))
  const { dtype, shape, data_offsets: offsets } = json
  if (!isDtype(dtype)) throw invalid(expected(`${where}: dtype`, 'a safetensors dtype', dtype))
  if (!Array.isArray(shape) || !shape.every(isCount))
    throw invalid(expected(`${where}: shape`, 'a list of integers >= 0', shape))
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount))
    throw invalid(expected(`${where}: data_offsets`, 'two integers >= 0', offsets))
  const [begin, end] = offsets as [number, number]
  const want = tensorBytes(dtype, shape, where)
  if (end - begin !== want)
    throw invalid(
      expected(`${where}: data_offsets`, `${want} bytes for ${dtype} [${shape}]`, offsets),
    )
  return { name, dtype, shape, begin, end }
}

function parseMetadata(json: Json): Record<string, string> {
  // What MLX writes where it has none; the reference library reads it the same.
  if (json === null) return {}
  if (!isObject(json)) throw invalid(expected('__metadata__', 'an object of strings', json))
  for (const [key, value] of Object.entries(json))
    if (typeof value !== 'string') throw invalid(expected(`__metadata__.${key}`, 'a string', value))
  return json as Record<string, string>
}

const textOf = (bytes: Uint8Array): string => new TextDecoder().decode(bytes)

/**
 * Reads the header at the start of `bytes`: a whole file, or its first 8 + N bytes with the file's size beside it.
 * Offsets must tile the data without gap or overlap and the file must end with the last tensor.
 * @throws ERR_SAFETENSORS_INVALID naming what is wrong
 */
export function parseSafetensorsHeader(
  bytes: Uint8Array,
  fileSize: number = bytes.length,
): SafetensorsHeader {
  if (bytes.length < 8) throw invalid(expected('the file', 'at least 8 bytes', bytes.length))
  const length = new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true)
  if (length > BigInt(MAX_SAFETENSORS_HEADER_BYTES)) {
    refuseOtherFormat(bytes)
    throw invalid(
      expected('header length', `at most ${MAX_SAFETENSORS_HEADER_BYTES} bytes`, String(length)),
    )
  }
  const dataStart = 8 + Number(length)
  if (dataStart > fileSize || dataStart > bytes.length)
    throw invalid(expected('header length', 'inside the file', Number(length)))
  if (bytes[8] !== 0x7b || length === 0n)
    throw invalid(
      expected('the header', 'a JSON object starting with "{"', textOf(bytes.subarray(8, 16))),
    )
  const header = bytes.subarray(8, dataStart)
  const json = parseStrictJson(header, 'header', 'ERR_SAFETENSORS_INVALID', { integersOnly: true })
  const { __metadata__: metadata = {}, ...entries } = json as { [key: string]: Json }
  const tensors = Object.entries(entries)
    .map(([name, entry]) => parseEntry(name, entry))
    .sort((a, b) => a.begin - b.begin || a.end - b.end)
  let at = 0
  for (const { name, begin, end } of tensors) {
    if (begin !== at)
      throw invalid(
        `tensor ${JSON.stringify(name)} ${begin < at ? 'overlaps the tensor before it' : 'leaves a gap before it'}: begins at ${begin}, must begin at ${at}`,
      )
    at = end
  }
  if (dataStart + at !== fileSize)
    throw invalid(expected('the file', `${dataStart + at} bytes as its header says`, fileSize))
  return { tensors, metadata: parseMetadata(metadata), dataStart }
}

/** Tensors are views of `bytes`. @throws ERR_SAFETENSORS_INVALID */
export function readSafetensors(bytes: Uint8Array): {
  tensors: Map<string, Tensor>
  metadata: Record<string, string>
} {
  const { tensors, metadata, dataStart } = parseSafetensorsHeader(bytes)
  const map = new Map(
    tensors.map(({ name, dtype, shape, begin, end }): [string, Tensor] => [
      name,
      { dtype, shape, data: bytes.subarray(dataStart + begin, dataStart + end) },
    ]),
  )
  return { tensors: map, metadata }
}

/** UTF-8 byte order, which UTF-16 order is not once surrogates appear. */
function byUtf8(a: string, b: string): number {
  const [x, y] = [new TextEncoder().encode(a), new TextEncoder().encode(b)]
  const i = x.findIndex((byte, at) => byte !== y[at])
  return i < 0 ? x.length - y.length : x[i]! - (y[i] ?? -1)
}

export interface TensorSize {
  name: string
  dtype: string
  shape: readonly number[]
  bytes: number
}

/**
 * Header and order of a file of these tensors, as the reference writer has them: dtypes of larger alignment first,
 * then names; header padded with spaces to 8 bytes; metadata by key.
 * @param order of the metadata's names, where a source has another
 * @throws ERR_SAFETENSORS_INVALID when a tensor's bytes do not fit its dtype and shape
 */
export function layoutSafetensors(
  tensors: readonly TensorSize[],
  metadata: Readonly<Record<string, string>>,
  order?: readonly string[],
): { header: Uint8Array<ArrayBuffer>; order: string[]; size: number } {
  const rows = tensors.map(({ name, dtype, shape, bytes }) => {
    const where = `tensor ${JSON.stringify(name)}`
    if (!isDtype(dtype)) throw invalid(expected(`${where}: dtype`, 'a safetensors dtype', dtype))
    if (name === '__metadata__') throw invalid(`${where}: the name is reserved for metadata`)
    const want = tensorBytes(dtype, shape, where)
    if (bytes !== want)
      throw invalid(expected(where, `${want} bytes for ${dtype} [${shape}]`, bytes))
    return { name, dtype, shape, bytes }
  })
  rows.sort((a, b) => DTYPES[b.dtype].order - DTYPES[a.dtype].order || byUtf8(a.name, b.name))
  const members: string[] = []
  const keys = order ?? Object.keys(metadata).sort(byUtf8)
  if (keys.length > 0) {
    const pairs = keys.map((k) => `${JSON.stringify(k)}:${JSON.stringify(metadata[k])}`)
    members.push(`"__metadata__":{${pairs.join(',')}}`)
  }
  let at = 0
  for (const { name, dtype, shape, bytes } of rows) {
    const entry = { dtype, shape, data_offsets: [at, at + bytes] }
    members.push(`${JSON.stringify(name)}:${JSON.stringify(entry)}`)
    at += bytes
  }
  const json = new TextEncoder().encode(`{${members.join(',')}}`)
  const padded = Math.ceil(json.length / 8) * 8
  const header = new Uint8Array(8 + padded).fill(0x20, 8)
  new DataView(header.buffer).setBigUint64(0, BigInt(padded), true)
  header.set(json, 8)
  return { header, order: rows.map(({ name }) => name), size: header.length + at }
}

/**
 * The same tensors and metadata always give the same bytes, those of the reference writer (layoutSafetensors).
 * @throws ERR_SAFETENSORS_INVALID when a tensor's bytes do not fit its dtype and shape
 */
export function writeSafetensors(
  tensors: ReadonlyMap<string, Tensor>,
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array<ArrayBuffer> {
  const sizes = [...tensors].map(([name, { dtype, shape, data }]) => ({
    name,
    dtype,
    shape,
    bytes: data.length,
  }))
  const { header, order, size } = layoutSafetensors(sizes, metadata)
  const file = new Uint8Array(size)
  file.set(header)
  let offset = header.length
  for (const name of order) {
    const { data } = tensors.get(name)!
    file.set(data, offset)
    offset += data.length
  }
  return file
}

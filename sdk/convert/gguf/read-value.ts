import { expected } from '@graft/sdk/format/errors.ts'
import { type Cursor, invalid } from './cursor.ts'
import {
  GGUF_KINDS,
  type GgufKind,
  type GgufScalar,
  type GgufValue,
  ggufKind,
} from './gguf-value.ts'

const READ = {
  uint8: (v) => v.getUint8(0),
  int8: (v) => v.getInt8(0),
  uint16: (v) => v.getUint16(0, true),
  int16: (v) => v.getInt16(0, true),
  uint32: (v) => v.getUint32(0, true),
  int32: (v) => v.getInt32(0, true),
  float32: (v) => v.getFloat32(0, true),
  uint64: (v) => v.getBigUint64(0, true),
  int64: (v) => v.getBigInt64(0, true),
  float64: (v) => v.getFloat64(0, true),
} satisfies Partial<Record<GgufKind, (view: DataView) => number | bigint>>

function readKind(cursor: Cursor, where: string): GgufKind {
  const id = cursor.u32(`${where}: type`)
  const kind = ggufKind(id)
  if (kind !== null) return kind
  throw invalid(expected(`${where}: type`, 'a value type of 0 to 12', id))
}

function readScalar(cursor: Cursor, kind: Exclude<GgufKind, 'array'>, where: string): GgufScalar {
  if (kind === 'string') return cursor.text(cursor.left(), where)
  const view = cursor.view(GGUF_KINDS[kind].bytes, where)
  if (kind !== 'bool') return READ[kind](view)
  const byte = view.getUint8(0)
  if (byte > 1) throw invalid(expected(where, 'false (0) or true (1)', byte))
  return byte === 1
}

/** One metadata value with its type. @throws ERR_CONFIG_INVALID */
export function readValue(cursor: Cursor, where: string): GgufValue {
  const kind = readKind(cursor, where)
  if (kind !== 'array') return { kind, value: readScalar(cursor, kind, where) }
  const of = readKind(cursor, `${where}: items`)
  // The specification allows lists of lists; llama.cpp reads none and no key has one.
  if (of === 'array') throw invalid(`${where}: lists of lists are not read`)
  const length = cursor.countOf(GGUF_KINDS[of].bytes, `${where}: number of items`)
  const value: GgufScalar[] = []
  for (let i = 0; i < length; i++) value.push(readScalar(cursor, of, `${where}[${i}]`))
  return { kind, of, value }
}

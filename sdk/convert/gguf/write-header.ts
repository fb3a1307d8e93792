import { concatBytes } from '@graft/sdk/format/bytes.ts'
import { ADAPTER_TYPES, type AdapterType } from './ggml-types.ts'
import { GGUF_KINDS } from './gguf-value.ts'
import { DEFAULT_ALIGNMENT, GGUF_MAGIC, GGUF_VERSION, padded } from './read-header.ts'

/** Metadata that an adapter is written with. */
export type WrittenValue = { text: string } | { float32: number } | { uint32: number }

export interface WrittenTensor {
  name: string
  type: AdapterType
  /** C order. */
  shape: readonly number[]
  bytes: number
}

const fixed = (size: number, write: (view: DataView) => void): Uint8Array => {
  const bytes = new Uint8Array(size)
  write(new DataView(bytes.buffer))
  return bytes
}
const u32 = (value: number): Uint8Array => fixed(4, (v) => v.setUint32(0, value, true))
const u64 = (value: number): Uint8Array => fixed(8, (v) => v.setBigUint64(0, BigInt(value), true))
const text = (value: string): Uint8Array => {
  const bytes = new TextEncoder().encode(value)
  return concatBytes([u64(bytes.length), bytes])
}

function encode(value: WrittenValue): Uint8Array {
  if ('text' in value) return concatBytes([u32(GGUF_KINDS.string.id), text(value.text)])
  if ('uint32' in value) return concatBytes([u32(GGUF_KINDS.uint32.id), u32(value.uint32)])
  const bits = fixed(4, (v) => v.setFloat32(0, value.float32, true))
  return concatBytes([u32(GGUF_KINDS.float32.id), bits])
}

/** Everything of a GGUF file before its tensors' data; each tensor lies at the next multiple of 32 bytes. */
export function ggufHeader(
  metadata: ReadonlyMap<string, WrittenValue>,
  tensors: readonly WrittenTensor[],
): Uint8Array {
  let at = 0
  const infos = tensors.map(({ name, type, shape, bytes }) => {
    const offset = at
    at = padded(at + bytes, DEFAULT_ALIGNMENT)
    const ne = [...shape].reverse()
    return concatBytes([
      text(name),
      u32(ne.length),
      ...ne.map(u64),
      u32(ADAPTER_TYPES[type]),
      u64(offset),
    ])
  })
  const header = concatBytes([
    Uint8Array.from(GGUF_MAGIC),
    u32(GGUF_VERSION),
    u64(tensors.length),
    u64(metadata.size),
    ...[...metadata].map(([key, value]) => concatBytes([text(key), encode(value)])),
    ...infos,
  ])
  return concatBytes([
    header,
    new Uint8Array(padded(header.length, DEFAULT_ALIGNMENT) - header.length),
  ])
}

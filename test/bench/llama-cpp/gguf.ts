import { open } from 'node:fs/promises'

/** GGUF version 3 (ggml's docs/gguf.md), as much of it as a Llama and its LoRA adapters need. */

/** ggml's own numbers of tensor types. */
export const GGML_TYPE = { F32: 0, Q4_0: 2, Q8_0: 8 } as const
export type GgmlType = (typeof GGML_TYPE)[keyof typeof GGML_TYPE]

export interface GgufTensor {
  name: string
  /** Innermost first: ggml's order, the reverse of torch's. */
  dims: number[]
  type: GgmlType
  data: Uint8Array
}

/** A metadata value with its type. */
export type GgufValue =
  | { u32: number }
  | { f32: number }
  | { text: string }
  | { texts: string[] }
  | { f32s: number[] }
  | { i32s: number[] }

const TYPE = { u32: 4, i32: 5, f32: 6, text: 8, array: 9 } as const
const ALIGNMENT = 32

const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return bytes
}
const u64 = (value: number): Buffer => {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(BigInt(value))
  return bytes
}
const text = (value: string): Buffer => {
  const bytes = Buffer.from(value)
  return Buffer.concat([u64(bytes.length), bytes])
}
const raw = (view: ArrayBufferView): Buffer =>
  Buffer.from(view.buffer, view.byteOffset, view.byteLength)
const array = (type: number, length: number, body: Buffer): Buffer =>
  Buffer.concat([u32(TYPE.array), u32(type), u64(length), body])

function encode(value: GgufValue): Buffer {
  if ('u32' in value) return Buffer.concat([u32(TYPE.u32), u32(value.u32)])
  if ('f32' in value) return Buffer.concat([u32(TYPE.f32), raw(Float32Array.of(value.f32))])
  if ('text' in value) return Buffer.concat([u32(TYPE.text), text(value.text)])
  if ('texts' in value)
    return array(TYPE.text, value.texts.length, Buffer.concat(value.texts.map(text)))
  if ('f32s' in value) return array(TYPE.f32, value.f32s.length, raw(Float32Array.from(value.f32s)))
  return array(TYPE.i32, value.i32s.length, raw(Int32Array.from(value.i32s)))
}

const padding = (length: number): Buffer =>
  Buffer.alloc((ALIGNMENT - (length % ALIGNMENT)) % ALIGNMENT)

/** Writes the header, then each tensor at its aligned place. */
export async function writeGguf(
  path: string,
  metadata: Record<string, GgufValue>,
  tensors: readonly GgufTensor[],
): Promise<void> {
  let end = 0
  const infos = tensors.map(({ name, dims, type, data }) => {
    const info = [text(name), u32(dims.length), ...dims.map(u64), u32(type), u64(end)]
    end += data.length + padding(data.length).length
    return Buffer.concat(info)
  })
  const head = Buffer.concat([
    Buffer.from('GGUF'),
    u32(3),
    u64(tensors.length),
    u64(Object.keys(metadata).length),
    ...Object.entries(metadata).flatMap(([key, value]) => [text(key), encode(value)]),
    ...infos,
  ])
  const file = await open(path, 'w')
  try {
    await file.write(head)
    await file.write(padding(head.length))
    for (const { data } of tensors) {
      await file.write(data)
      await file.write(padding(data.length))
    }
  } finally {
    await file.close()
  }
}

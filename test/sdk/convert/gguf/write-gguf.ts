import { concatBytes } from '@graft/sdk/format/bytes.ts'

/** GGUF version 3 by hand, with every field open to abuse: what the tests of the reader are made of. */

export interface HandTensor {
  name: string
  /** ggml's order. */
  ne: (number | bigint)[]
  type?: number
  /** Where its data begins; by default the next multiple of the alignment. */
  offset?: number | bigint
  data?: Uint8Array
}

export interface HandFile {
  magic?: string
  version?: number
  tensorCount?: number | bigint
  keyCount?: number | bigint
  /** Key, and the bytes of type and value. */
  keys?: [key: string, value: Uint8Array][]
  tensors?: HandTensor[]
  alignment?: number
  tail?: Uint8Array
  /** Leave the last tensor unpadded. */
  unpadded?: boolean
}

const number = (size: 1 | 4 | 8, value: number | bigint): Uint8Array => {
  const bytes = new Uint8Array(8)
  new DataView(bytes.buffer).setBigUint64(0, BigInt.asUintN(64, BigInt(value)), true)
  return bytes.subarray(0, size)
}
export const u8 = (value: number): Uint8Array => number(1, value)
export const u32 = (value: number): Uint8Array => number(4, value)
export const u64 = (value: number | bigint): Uint8Array => number(8, value)
export const f32 = (value: number): Uint8Array => new Uint8Array(Float32Array.of(value).buffer)

export const join = (...parts: Uint8Array[]): Uint8Array => concatBytes(parts)

export const text = (value: string): Uint8Array => {
  const bytes = new TextEncoder().encode(value)
  return join(u64(bytes.length), bytes)
}
export const textValue = (value: string): Uint8Array => join(u32(8), text(value))
export const f32Value = (value: number): Uint8Array => join(u32(6), f32(value))
export const u32Value = (value: number): Uint8Array => join(u32(4), u32(value))
export const listValue = (kind: number, ...items: Uint8Array[]): Uint8Array =>
  join(u32(9), u32(kind), u64(items.length), ...items)

export const ADAPTER_KEYS: [string, Uint8Array][] = [
  ['general.architecture', textValue('llama')],
  ['general.type', textValue('adapter')],
  ['adapter.type', textValue('lora')],
  ['adapter.lora.alpha', f32Value(4)],
]

const pad = (size: number, to: number): Uint8Array => new Uint8Array((to - (size % to)) % to)

/** Floats 0.5, 0.625, ... as the data of a tensor. */
export const floats = (count: number): Uint8Array =>
  new Uint8Array(Float32Array.from({ length: count }, (_, i) => 0.5 + i / 8).buffer)

export function gguf(file: HandFile = {}): Uint8Array {
  const { keys = ADAPTER_KEYS, tensors = [], alignment = 32 } = file
  let at = 0
  const infos = tensors.map(({ name, ne, type = 0, offset, data = new Uint8Array() }) => {
    const info = join(text(name), u32(ne.length), ...ne.map(u64), u32(type), u64(offset ?? at))
    at += data.length + pad(data.length, alignment).length
    return info
  })
  const head = join(
    new TextEncoder().encode(file.magic ?? 'GGUF'),
    u32(file.version ?? 3),
    u64(file.tensorCount ?? tensors.length),
    u64(file.keyCount ?? keys.length),
    ...keys.map(([key, value]) => join(text(key), value)),
    ...infos,
  )
  const data = tensors.map(({ data: bytes = new Uint8Array() }, i) =>
    file.unpadded && i === tensors.length - 1 ? bytes : join(bytes, pad(bytes.length, alignment)),
  )
  return join(head, pad(head.length, alignment), ...data, file.tail ?? new Uint8Array())
}

/** lora_a and lora_b of a tensor of llama.cpp, f32. */
export const pair = (name: string, inside: number, out: number, rank: number): HandTensor[] => [
  { name: `${name}.lora_a`, ne: [inside, rank], data: floats(inside * rank) },
  { name: `${name}.lora_b`, ne: [rank, out], data: floats(rank * out) },
]

/** One update of the tiny Llama. */
export const UPDATE: HandTensor[] = pair('blk.0.attn_v.weight', 32, 16, 2)

export const withKey = (key: string, value: Uint8Array): HandFile => ({
  keys: [...ADAPTER_KEYS.filter(([name]) => name !== key), [key, value]],
  tensors: UPDATE,
})
export const withoutKey = (key: string): HandFile => ({
  keys: ADAPTER_KEYS.filter(([name]) => name !== key),
  tensors: UPDATE,
})

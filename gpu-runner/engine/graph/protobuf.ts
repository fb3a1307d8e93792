/** Protocol Buffers wire format (protobuf.dev, "Encoding"), as much of it as an ONNX ModelProto needs. */

import { concatBytes } from '@graft/sdk/format/bytes.ts'

export type Field = Uint8Array

const VARINT = 0
const LENGTH = 2
const FIXED32 = 5

function varintBytes(value: bigint): number[] {
  // Negative int64 values are their two's complement in ten bytes.
  let rest = BigInt.asUintN(64, value)
  const bytes: number[] = []
  do {
    const low = Number(rest & 0x7fn)
    rest >>= 7n
    bytes.push(rest > 0n ? low | 0x80 : low)
  } while (rest > 0n)
  return bytes
}

const tag = (field: number, type: number): number[] => varintBytes(BigInt((field << 3) | type))

export const integer = (field: number, value: number | bigint): Field =>
  Uint8Array.from([...tag(field, VARINT), ...varintBytes(BigInt(value))])

export function float(field: number, value: number): Field {
  const head = tag(field, FIXED32)
  const out = new Uint8Array(head.length + 4)
  out.set(head)
  new DataView(out.buffer).setFloat32(head.length, value, true)
  return out
}

export function bytes(field: number, value: Uint8Array): Field {
  const head = [...tag(field, LENGTH), ...varintBytes(BigInt(value.length))]
  const out = new Uint8Array(head.length + value.length)
  out.set(head)
  out.set(value, head.length)
  return out
}

export const text = (field: number, value: string): Field =>
  bytes(field, new TextEncoder().encode(value))

export const message = (fields: Field[]): Uint8Array => concatBytes(fields)

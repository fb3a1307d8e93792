import { toFloat32 } from '@graft/sdk/format/dtypes.ts'
import { toHalf } from '../cast-dtype.ts'

/** ggml's q8_0: 32 elements are an f16 scale d, then 32 signed bytes q; an element is d * q. */
const ELEMENTS = 32
const BYTES = 34

/** Exact: an f16 times a byte has at most 19 significant bits. */
export function dequantiseQ8(blocks: Uint8Array): Float32Array<ArrayBuffer> {
  const count = blocks.length / BYTES
  const out = new Float32Array(count * ELEMENTS)
  const scales = new Uint8Array(count * 2)
  for (let b = 0; b < count; b++) scales.set(blocks.subarray(b * BYTES, b * BYTES + 2), b * 2)
  const d = toFloat32('F16', scales)
  const q = new Int8Array(blocks.buffer, blocks.byteOffset, blocks.length)
  for (let b = 0; b < count; b++)
    for (let i = 0; i < ELEMENTS; i++) out[b * ELEMENTS + i] = d[b]! * q[b * BYTES + 2 + i]!
  return out
}

/**
 * As llama.cpp's reference quantiser writes it: d = max / 127, q = x / d rounded half away from zero. What dequantiseQ8
 * made of blocks that were quantised so gives the same bytes again.
 */
export function quantiseQ8(values: Float32Array): Uint8Array<ArrayBuffer> {
  const count = values.length / ELEMENTS
  const out = new Uint8Array(count * BYTES)
  const view = new DataView(out.buffer)
  for (let b = 0; b < count; b++) {
    let most = 0
    for (let i = 0; i < ELEMENTS; i++) most = Math.max(most, Math.abs(values[b * ELEMENTS + i]!))
    const d = Math.fround(most / 127)
    const inverse = d === 0 ? 0 : Math.fround(1 / d)
    view.setUint16(b * BYTES, toHalf(d), true)
    for (let i = 0; i < ELEMENTS; i++) {
      const x = Math.fround(values[b * ELEMENTS + i]! * inverse)
      view.setInt8(b * BYTES + 2 + i, Math.sign(x) * Math.floor(Math.abs(x) + 0.5))
    }
  }
  return out
}

/** A row of what `strayBlocks` gives: the block's number, u32, and its bytes. */
const ROW_BYTES = 4 + BYTES

/**
 * The blocks that quantiseQ8 would not give back: written by another quantiser, or with a scale too small for f16, which is
 * stored as 0 beside bytes that mean nothing. U8 [blocks, 38].
 */
export function strayBlocks(blocks: Uint8Array): Uint8Array<ArrayBuffer> {
  const again = quantiseQ8(dequantiseQ8(blocks))
  const stray: number[] = []
  for (let b = 0; b < blocks.length / BYTES; b++)
    for (let i = b * BYTES; i < (b + 1) * BYTES; i++)
      if (blocks[i] !== again[i]) {
        stray.push(b)
        break
      }
  const rows = new Uint8Array(stray.length * ROW_BYTES)
  for (const [i, b] of stray.entries()) {
    new DataView(rows.buffer).setUint32(i * ROW_BYTES, b, true)
    rows.set(blocks.subarray(b * BYTES, (b + 1) * BYTES), i * ROW_BYTES + 4)
  }
  return rows
}

/** Puts them back. @returns false when a row names no block */
export function putStrayBlocks(blocks: Uint8Array, rows: Uint8Array): boolean {
  const view = new DataView(rows.buffer, rows.byteOffset, rows.length)
  for (let at = 0; at + ROW_BYTES <= rows.length; at += ROW_BYTES) {
    const begin = view.getUint32(at, true) * BYTES
    if (begin + BYTES > blocks.length) return false
    blocks.set(rows.subarray(at + 4, at + ROW_BYTES), begin)
  }
  return rows.length % ROW_BYTES === 0
}

/** Name of the literal that keeps a tensor's stray blocks; no tensor of an adapter ends so. */
export const strayKey = (tensor: string): string => `${tensor}.stray_blocks`

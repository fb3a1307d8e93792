import type { Checkpoint } from '@graft/runner/checkpoint/read-checkpoint.ts'
import type { Precision } from '@graft/runner/engine/graph/precisions.ts'
import type { GgmlType } from './gguf.ts'

/** Weights of one size on both sides: llama.cpp's format and Graft's precision for the same numbers. */
export interface WeightClass {
  /** Of a matrix in GGUF. */
  type: GgmlType
  /** `general.file_type` of such a GGUF (llama.h: LLAMA_FTYPE_*). */
  fileType: number
  precision: Precision
  /** What either side holds, in words. */
  names: { graft: string; llama_cpp: string }
  /** The nearest weights that the format can hold: quantising them again loses nothing. @param w [out, inner] */
  snap(w: Float32Array, inner: number): Float32Array
  /** Such weights as the format stores them. */
  pack(w: Float32Array, inner: number): Uint8Array
}

/** The same base with every matrix on the class's grid, so that both sides run the very same weights. */
export function onGrid(checkpoint: Checkpoint, { snap }: WeightClass): Checkpoint {
  const known = new Map<Float32Array, Float32Array>()
  return {
    ...checkpoint,
    f32(name, shape) {
      const w = checkpoint.f32(name, shape)
      if (shape.length !== 2) return w
      const snapped = known.get(w) ?? snap(w, shape[1]!)
      known.set(w, snapped)
      return snapped
    },
  }
}

/** A scale in f16, as llama.cpp's blocks store it. Normal numbers only: seeded weights are nowhere near the others. */
export function f16(value: number): { bits: number; value: number } {
  const bits = new DataView(new ArrayBuffer(4))
  bits.setFloat32(0, value)
  // Ten bits of mantissa, rounded half up.
  const rounded = (bits.getUint32(0) + 0x1000) & ~0x1fff
  bits.setUint32(0, rounded)
  return {
    bits:
      ((rounded >> 16) & 0x8000) |
      ((((rounded >> 23) & 0xff) - 112) << 10) |
      ((rounded >> 13) & 0x3ff),
    value: bits.getFloat32(0),
  }
}

/** The scale at which the largest of `count` weights is `top`. */
export function scaleOf(w: Float32Array, begin: number, count: number, top: number) {
  let most = 0
  for (let i = begin; i < begin + count; i++) most = Math.max(most, Math.abs(w[i]!))
  return f16(most / top)
}

/** Weights in a block of q4_0 and q8_0, and in one of Graft's int4. */
export const BLOCK = 32

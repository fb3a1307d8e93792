import type { Checkpoint } from '@graft/runner/checkpoint/read-checkpoint.ts'

/** Weights that share a scale: the same in q4_0 and in Graft's int4. */
export const BLOCK = 32

/** A scale in f16, as q4_0 stores it. Normal numbers only: seeded weights are nowhere near the others. */
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

/** The scale of one block, by its largest weight: q in -7..7. */
export function blockScale(w: Float32Array, begin: number): { bits: number; value: number } {
  let most = 0
  for (let i = begin; i < begin + BLOCK; i++) most = Math.max(most, Math.abs(w[i]!))
  return f16(most / 7)
}

/**
 * The same base with every matrix moved to the nearest value that q4_0 can hold: quantising it again, by llama.cpp's
 * format or by Graft, loses nothing, so that both run the very same weights.
 */
export function onQ4Grid(checkpoint: Checkpoint): Checkpoint {
  const known = new Map<Float32Array, Float32Array>()
  return {
    ...checkpoint,
    f32(name, shape) {
      const w = checkpoint.f32(name, shape)
      if (shape.length !== 2) return w
      const snapped = known.get(w) ?? snap(w)
      known.set(w, snapped)
      return snapped
    },
  }
}

function snap(w: Float32Array): Float32Array {
  const out = new Float32Array(w.length)
  for (let begin = 0; begin < w.length; begin += BLOCK) {
    const { value } = blockScale(w, begin)
    for (let i = begin; i < begin + BLOCK; i++) out[i] = value * Math.round(w[i]! / value)
  }
  return out
}

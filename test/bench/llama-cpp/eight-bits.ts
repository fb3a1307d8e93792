import { GGML_TYPE } from './gguf.ts'
import { BLOCK, scaleOf, type WeightClass } from './weight-class.ts'

const rowScale = (w: Float32Array, begin: number, inner: number) => scaleOf(w, begin, inner, 127)

/**
 * One scale for each output: Graft's w8a8, and q8_0 with the same scale in all blocks of a row. Both sides multiply by int8
 * activations, llama.cpp quantises them in blocks of 32, Graft by row.
 */
export const EIGHT_BITS: WeightClass = {
  type: GGML_TYPE.Q8_0,
  fileType: 7,
  precision: 'w8a8',
  names: { graft: 'w8a8, a scale for each output', llama_cpp: 'q8_0' },
  snap(w, inner) {
    const out = new Float32Array(w.length)
    for (let begin = 0; begin < w.length; begin += inner) {
      const { value } = rowScale(w, begin, inner)
      for (let i = begin; i < begin + inner; i++) out[i] = value * Math.round(w[i]! / value)
    }
    return out
  },
  /** Per block an f16 scale, then 32 signed bytes. */
  pack(w, inner) {
    const size = 2 + BLOCK
    const bytes = new Uint8Array((w.length / BLOCK) * size)
    const view = new DataView(bytes.buffer)
    for (let begin = 0; begin < w.length; begin += inner) {
      const { bits, value } = rowScale(w, begin, inner)
      for (let first = begin; first < begin + inner; first += BLOCK) {
        const at = (first / BLOCK) * size
        view.setUint16(at, bits, true)
        for (let j = 0; j < BLOCK; j++) bytes[at + 2 + j] = Math.round(w[first + j]! / value)
      }
    }
    return bytes
  },
}

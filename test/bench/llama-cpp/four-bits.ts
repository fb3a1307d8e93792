import { GGML_TYPE } from './gguf.ts'
import { BLOCK, scaleOf, type WeightClass } from './weight-class.ts'

/** q in -7..7, so that the largest weight of a block is met in either sign. */
const blockScale = (w: Float32Array, begin: number) => scaleOf(w, begin, BLOCK, 7)

/** Blocks of 32 under one scale: the same numbers in q4_0 and in Graft's int4. */
export const FOUR_BITS: WeightClass = {
  type: GGML_TYPE.Q4_0,
  fileType: 2,
  precision: 'int4',
  names: { graft: 'int4, blocks of 32', llama_cpp: 'q4_0' },
  snap(w) {
    const out = new Float32Array(w.length)
    for (let begin = 0; begin < w.length; begin += BLOCK) {
      const { value } = blockScale(w, begin)
      for (let i = begin; i < begin + BLOCK; i++) out[i] = value * Math.round(w[i]! / value)
    }
    return out
  },
  /** Per block an f16 scale, then 16 bytes; value j in the low half of byte j, value j + 16 in its high half. */
  pack(w) {
    const bytes = new Uint8Array((w.length / BLOCK) * 18)
    const view = new DataView(bytes.buffer)
    for (let block = 0; block < w.length / BLOCK; block++) {
      const begin = block * BLOCK
      const { bits, value } = blockScale(w, begin)
      view.setUint16(block * 18, bits, true)
      const code = (i: number) => Math.round(w[begin + i]! / value) + 8
      for (let j = 0; j < 16; j++) bytes[block * 18 + 2 + j] = code(j) | (code(j + 16) << 4)
    }
    return bytes
  },
}

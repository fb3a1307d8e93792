/** Weights per block that share one scale (MatMulNBits' smallest-error size that its kernels are fast at). */
export const BLOCK = 32

/** A third faster than 32 and less scales to store; for 8 bits, whose error is small in any block. */
export const WIDE_BLOCK = 128

/** The widest block that rows divide by, up to `widest`. */
export const blockWithin = (inner: number, widest: number): number =>
  inner % widest === 0 || widest === BLOCK ? widest : blockWithin(inner, widest / 2)

export interface Blocks {
  /** [out, in / block, bytes of a block]; of two 4-bit values in a byte the earlier one is the low half. */
  q: Uint8Array
  /** [out * in / block] */
  scales: Float32Array
}

/**
 * Symmetric blockwise quantisation of W [out, in] for MatMulNBits: zero point in the middle, one f32 scale per block.
 */
export function quantizeBlocks(w: Float32Array, bits: 4 | 8, size = BLOCK): Blocks {
  const top = bits === 4 ? 7 : 127
  const zero = bits === 4 ? 8 : 128
  const q = new Uint8Array((w.length * bits) / 8)
  const scales = new Float32Array(w.length / size)
  // A hot loop over every weight of a base: plain locals and no calls.
  for (let block = 0; block < scales.length; block++) {
    const begin = block * size
    const end = begin + size
    let most = 0
    for (let i = begin; i < end; i++) {
      const size = w[i]! < 0 ? -w[i]! : w[i]!
      if (size > most) most = size
    }
    const scale = Math.fround(most / top)
    scales[block] = scale
    // All weights of the block are 0, or too small for an f32 scale: any scale will do.
    const divisor = scale === 0 ? Infinity : scale
    // Truncating a positive number that has 0.5 added rounds as Math.round does, several times as fast.
    const middle = zero + 0.5
    if (bits === 8) for (let i = begin; i < end; i++) q[i] = (w[i]! / divisor + middle) | 0
    // Two values a byte, the earlier one in the low half.
    else
      for (let i = begin; i < end; i += 2)
        q[i >> 1] = (w[i]! / divisor + middle) | ((w[i + 1]! / divisor + middle) << 4)
  }
  return { q, scales }
}

/** The same for W [out, in] that comes some rows at a time. */
export function quantizeBands(
  bands: Iterable<Float32Array>,
  weights: number,
  bits: 4 | 8,
  size = BLOCK,
): Blocks {
  const q = new Uint8Array((weights * bits) / 8)
  const scales = new Float32Array(weights / size)
  let [atQ, atScales] = [0, 0]
  for (const band of bands) {
    const blocks = quantizeBlocks(band, bits, size)
    q.set(blocks.q, atQ)
    scales.set(blocks.scales, atScales)
    atQ += blocks.q.length
    atScales += blocks.scales.length
  }
  return { q, scales }
}

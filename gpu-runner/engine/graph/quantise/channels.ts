/** A matrix as int8 with one scale for each output, the way integer products of matrices read it. */
export interface Channels {
  /** [in, out] */
  q: Int8Array
  /** [out] */
  scales: Float32Array
}

export interface MatrixSize {
  out: number
  in: number
}

/** Largest size of a weight; -128 stays unused, so that both signs reach equally far. */
const TOP = 127

/** Doubles of this size are whole numbers: adding it rounds, halves to even as kernels round activations. */
const WHOLE = 1.5 * 2 ** 52

/** Rows that are turned together: a cache line of the result. */
const TILE = 64

/**
 * Symmetric quantisation of W [out, in] by output, transposed.
 * @param bands W some whole rows at a time, in order
 */
export function quantizeChannels(bands: Iterable<Float32Array>, size: MatrixSize): Channels {
  const { out, in: inner } = size
  const q = new Int8Array(out * inner)
  const scales = new Float32Array(out)
  const tile = new Int8Array(TILE * inner)
  let first = 0
  for (const band of bands) {
    const rows = band.length / inner
    for (let begin = 0; begin < rows; begin += TILE) {
      const count = Math.min(TILE, rows - begin)
      for (let row = 0; row < count; row++)
        scales[first + row] = quantizeRow(band, (begin + row) * inner, inner, tile, row * inner)
      for (let i = 0; i < inner; i++)
        for (let row = 0; row < count; row++) q[i * out + first + row] = tile[row * inner + i]!
      first += count
    }
  }
  return { q, scales }
}

/** A hot loop over every weight of a base: plain locals and no calls but to fround. @returns the scale */
function quantizeRow(
  w: Float32Array,
  begin: number,
  length: number,
  target: Int8Array,
  at: number,
): number {
  let most = 0
  for (let i = begin; i < begin + length; i++) {
    const size = w[i]! < 0 ? -w[i]! : w[i]!
    if (size > most) most = size
  }
  const scale = Math.fround(most / TOP)
  // All weights of the row are 0, or too small for an f32 scale: any codes will do. Else rounded where bitsandbytes does.
  const inverse = scale === 0 ? 0 : Math.fround(Math.fround(1 / most) * TOP)
  for (let i = 0; i < length; i++)
    target[at + i] = Math.fround(w[begin + i]! * inverse) + WHOLE - WHOLE
  return scale
}

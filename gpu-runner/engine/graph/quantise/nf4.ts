/**
 * NormalFloat4, the base of QLoRA (arXiv 2305.14314), in the arithmetic of bitsandbytes: codes, absmax and what they
 * stand for are its own, bit for bit.
 */

/** Values of the 16 codes: quantiles of a normal distribution, scaled to [-1, 1]. */
export const NF4_LEVELS = Float32Array.of(
  -1,
  -0.6961928009986877,
  -0.5250730514526367,
  -0.39491748809814453,
  -0.28444138169288635,
  -0.18477343022823334,
  -0.09105003625154495,
  0,
  0.07958029955625534,
  0.16093020141124725,
  0.24611230194568634,
  0.33791524171829224,
  0.44070982933044434,
  0.5626170039176941,
  0.7229568362236023,
  1,
)

/** Values in the order of the flattened weight that share one absmax. */
export const NF4_BLOCK = 64

export interface Nf4 {
  /** [values / 2]; of two codes in a byte the earlier one is the high half. */
  codes: Uint8Array
  /** [values / 64] */
  absmax: Float32Array
}

/** Between neighbouring levels; a value on a bound takes the lower level. */
const BOUNDS = NF4_LEVELS.slice(1).map((level, i) => (NF4_LEVELS[i]! + level) / 2)

/** Cells of [-1, 1] from whose first code the search for a value's level starts. */
const CELLS = 512
const FIRST_CODE = Uint8Array.from(
  { length: CELLS + 2 },
  (_, cell) => BOUNDS.filter((bound) => bound < (2 * cell) / CELLS - 1).length,
)

/** Codes of a block whose values are all 0 are those of level 0, whatever it is divided by. */
const LEAST_ABSMAX = Math.fround(1e-38)

/** @param w a multiple of 64 values */
export function quantizeNf4(w: Float32Array): Nf4 {
  const codes = new Uint8Array(w.length / 2)
  const absmax = new Float32Array(w.length / NF4_BLOCK)
  // A hot loop over every weight of a base: plain locals and no calls but to fround, which is one instruction.
  const last = BOUNDS.length
  for (let block = 0; block < absmax.length; block++) {
    const begin = block * NF4_BLOCK
    let most = 0
    for (let i = begin; i < begin + NF4_BLOCK; i++) {
      const size = w[i]! < 0 ? -w[i]! : w[i]!
      if (size > most) most = size
    }
    absmax[block] = most
    const inverse = Math.fround(1 / (most < LEAST_ABSMAX ? LEAST_ABSMAX : most))
    let high = 0
    for (let i = begin; i < begin + NF4_BLOCK; i++) {
      const value = Math.fround(w[i]! * inverse)
      let code = FIRST_CODE[((value + 1) * (CELLS / 2)) | 0]!
      while (code < last && value > BOUNDS[code]!) code++
      if (i % 2 === 0) high = code << 4
      else codes[i >> 1] = high | code
    }
  }
  return { codes, absmax }
}

/** What the codes stand for, in f32. */
export function dequantizeNf4({ codes, absmax }: Nf4): Float32Array {
  const w = new Float32Array(codes.length * 2)
  const half = NF4_BLOCK / 2
  for (let i = 0; i < codes.length; i++) {
    const scale = absmax[(i / half) | 0]!
    w[2 * i] = NF4_LEVELS[codes[i]! >> 4]! * scale
    w[2 * i + 1] = NF4_LEVELS[codes[i]! & 15]! * scale
  }
  return w
}

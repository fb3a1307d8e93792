import { NF4_BLOCK, NF4_LEVELS, type Nf4 } from './nf4.ts'

/**
 * NF4 weights as the sum of a 4-bit and a 2-bit product, which integer kernels multiply by; NF4's own levels are no
 * whole multiples of anything, and exact ones would need a table look-up for every weight of every step.
 *
 *   w ~ scale * (four - 8) + ratio * scale * (two - 2)
 *
 * Each block's scale is the one of several that is nearest to its NF4 weights.
 */
export interface Nf4Planes {
  /** Weights of a row that share a scale. */
  block: 64 | 128
  /** [out, in / block, block / 2]; of two values in a byte the earlier one is the low half. */
  four: Uint8Array
  /** [out, in / block, block / 4], the earliest value in the lowest bits. */
  two: Uint8Array
  /** [out * in / block], of both planes. */
  scales: Float32Array
  ratio: number
}

/** 128 where rows divide by it: a third faster in the kernels than 64. */
export const planesBlock = (inner: number): 64 | 128 => (inner % 128 === 0 ? 128 : 64)

/** Found by search over normal weights; the 64 sums of a pair of values then lie nearest to NF4's levels. */
export const NF4_PLANES_RATIO = { 64: -5.6, 128: -4.4 } as const

/** Scales tried for a block, from the one at which its largest weight is the largest sum of both signs, upward. */
const SCALES = 16
const WIDEST = 1 / 0.7

/** Cells per unit of the table from a value to its nearest sum. */
const CELLS = 256

interface Sums {
  ratio: number
  /** Largest size of a sum that exists with both signs. */
  top: number
  lowest: number
  /** Cell of (value - lowest) * CELLS to the nearest sum's index: four * 4 + two. */
  nearest: Uint8Array
  /** What stands at that index. */
  nearestValue: Float64Array
}

const sums = { 64: tabulate(NF4_PLANES_RATIO[64]), 128: tabulate(NF4_PLANES_RATIO[128]) }

/** @param inner input size of the linear, a multiple of 64 */
export function nf4Planes({ codes, absmax }: Nf4, inner: number): Nf4Planes {
  const block = planesBlock(inner)
  const table = sums[block]
  const values = codes.length * 2
  const four = new Uint8Array(values / 2)
  const two = new Uint8Array(values / 4)
  const scales = new Float32Array(values / block)
  const groups = block / NF4_BLOCK
  const counts = new Float64Array(groups * 16)
  const levels = new Float64Array(groups * 16)
  const pairs = new Uint8Array(groups * 16)
  const half = NF4_BLOCK / 2
  for (let b = 0; b < scales.length; b++) {
    counts.fill(0)
    for (let g = 0; g < groups; g++) {
      const first = (b * groups + g) * half
      for (let i = first; i < first + half; i++) {
        counts[g * 16 + (codes[i]! >> 4)]!++
        counts[g * 16 + (codes[i]! & 15)]!++
      }
      const most = absmax[b * groups + g]!
      for (let level = 0; level < 16; level++) levels[g * 16 + level] = NF4_LEVELS[level]! * most
    }
    const scale = Math.fround(bestScale(table, levels, counts))
    scales[b] = scale
    for (let i = 0; i < pairs.length; i++) pairs[i] = nearestPair(table, levels[i]!, scale)
    for (let g = 0; g < groups; g++) {
      const first = (b * groups + g) * half
      for (let i = first; i < first + half; i++) {
        const early = pairs[g * 16 + (codes[i]! >> 4)]!
        const late = pairs[g * 16 + (codes[i]! & 15)]!
        four[i] = (early >> 2) | ((late >> 2) << 4)
        two[i >> 1]! |= ((early & 3) | ((late & 3) << 2)) << (i % 2 === 0 ? 0 : 4)
      }
    }
  }
  return { block, four, two, scales, ratio: table.ratio }
}

/** What the planes stand for, in f32. */
export function weightsOfPlanes({ block, four, two, scales, ratio }: Nf4Planes): Float32Array {
  return Float32Array.from({ length: four.length * 2 }, (_, i) => {
    const high = (four[i >> 1]! >> (4 * (i % 2))) & 15
    const low = (two[i >> 2]! >> (2 * (i % 4))) & 3
    return scales[Math.floor(i / block)]! * (high - 8 + ratio * (low - 2))
  })
}

/** The scale with the least squared error over a block. @param levels [groups * 16] what stands there counts[i] times */
function bestScale(table: Sums, levels: Float64Array, counts: Float64Array): number {
  let most = 0
  for (let i = 0; i < levels.length; i++) if (levels[i]! > most) most = levels[i]!
  let [best, least] = [0, Infinity]
  // Blocks of zeros need none, and no scale is an f32 below this.
  if (most < 1e-37) return 0
  for (let step = 0; step < SCALES; step++) {
    const scale = (most / table.top) * (1 + ((WIDEST - 1) * step) / (SCALES - 1))
    const cells = CELLS / scale
    const shift = 0.5 - table.lowest * CELLS
    let error = 0
    for (let i = 0; i < levels.length; i++) {
      const off = levels[i]! - scale * table.nearestValue[(levels[i]! * cells + shift) | 0]!
      error += counts[i]! * off * off
    }
    if (error < least) [best, least] = [scale, error]
  }
  return best
}

function nearestPair(table: Sums, value: number, scale: number): number {
  return scale === 0
    ? ZERO_PAIR
    : table.nearest[((value / scale - table.lowest) * CELLS + 0.5) | 0]!
}

/** four = 8, two = 2. */
const ZERO_PAIR = 8 * 4 + 2

function tabulate(ratio: number): Sums {
  const values = Float64Array.from({ length: 64 }, (_, i) => (i >> 2) - 8 + ratio * ((i & 3) - 2))
  const [lowest, highest] = [Math.min(...values), Math.max(...values)]
  const order = [...values.keys()].sort((a, b) => values[a]! - values[b]!)
  const nearest = new Uint8Array(Math.ceil((highest - lowest) * CELLS) + 2)
  const nearestValue = new Float64Array(nearest.length)
  let at = 0
  for (let cell = 0; cell < nearest.length; cell++) {
    const value = lowest + cell / CELLS
    const off = (i: number) => Math.abs(values[order[i]!]! - value)
    while (at + 1 < order.length && off(at + 1) <= off(at)) at++
    nearest[cell] = order[at]!
    nearestValue[cell] = values[order[at]!]!
  }
  return { ratio, top: Math.min(highest, -lowest), lowest, nearest, nearestValue }
}

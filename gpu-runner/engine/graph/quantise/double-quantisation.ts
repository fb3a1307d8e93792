/** The second quantisation of QLoRA: absmax values less their mean, as 8-bit codes in blocks of 256. */
export interface NestedAbsmax {
  /** [blocks] */
  codes: Uint8Array
  /** [blocks / 256, rounded up] */
  absmax: Float32Array
  /** Mean of what was quantised. */
  offset: number
}

export const NESTED_BLOCK = 256

/** Buckets of [-1, 1] of bitsandbytes' CPU library, which takes the code nearest to the bucket's centre. */
const BUCKETS = 65_536

const map = dynamicMap()
const bucketCodes = nearestToBuckets(map)

/**
 * @param offset bitsandbytes' own, where it is known: its f32 mean depends on the order of the sum, so that machines
 * differ in the last bit. @default the mean summed in f64
 */
export function nestAbsmax(absmax: Float32Array, offset = mean(absmax)): NestedAbsmax {
  const codes = new Uint8Array(absmax.length)
  const nested = new Float32Array(Math.ceil(absmax.length / NESTED_BLOCK))
  const centred = absmax.map((value) => value - offset)
  for (let block = 0; block < nested.length; block++) {
    const begin = block * NESTED_BLOCK
    const values = centred.subarray(begin, begin + NESTED_BLOCK)
    const most = values.reduce((top, value) => Math.max(top, Math.abs(value)), 0)
    nested[block] = most
    // A block of equal values is all zeros: code 0.
    if (most === 0) continue
    const inverse = Math.fround(1 / most)
    for (const [i, value] of values.entries()) {
      const shifted = Math.fround(Math.fround(value * inverse) + 1)
      const bucket = Math.fround(Math.fround(shifted * ((BUCKETS - 1) / 2)) + 0.5)
      codes[begin + i] = bucketCodes[Math.trunc(bucket)]!
    }
  }
  return { codes, absmax: nested, offset }
}

/** The absmax that weights are dequantised with. @param values of the 256 codes; bitsandbytes' dynamic map unless given */
export function unnestAbsmax(
  { codes, absmax, offset }: NestedAbsmax,
  values: Float32Array = map,
): Float32Array {
  const out = new Float32Array(codes.length)
  for (const [i, code] of codes.entries())
    out[i] = Math.fround(values[code]! * absmax[Math.floor(i / NESTED_BLOCK)]!) + offset
  return out
}

const mean = (values: Float32Array): number =>
  Math.fround(values.reduce((sum, value) => sum + value, 0) / values.length)

/**
 * Values of the 256 codes, ascending: a dynamic exponent and a fraction that has fewer bits the smaller the exponent
 * (arXiv 1511.04561), seven decades either side of 0, 0 and 1. Rounded where torch rounds.
 */
export function dynamicMap(): Float32Array {
  const DECADES = 7
  const values = [0, 1]
  for (let decade = 0; decade < DECADES; decade++) {
    const edges = spaced(Math.fround(0.1), 1, 2 ** decade + 1)
    const factor = Math.fround(10 ** (decade - DECADES + 1))
    for (let i = 1; i < edges.length; i++) {
      const middle = Math.fround(Math.fround(edges[i - 1]! + edges[i]!) / 2)
      values.push(factor * middle, -factor * middle)
    }
  }
  return Float32Array.from(values).sort()
}

/** As torch.linspace in f32: rounded once after multiply and add, the second half counted down from the end. */
function spaced(from: number, to: number, count: number): number[] {
  const step = Math.fround(Math.fround(to - from) / (count - 1))
  const half = Math.floor(count / 2)
  return Array.from({ length: count }, (_, i) =>
    Math.fround(i < half ? from + step * i : to - step * (count - 1 - i)),
  )
}

function nearestToBuckets(values: Float32Array): Uint8Array {
  const codes = new Uint8Array(BUCKETS)
  let code = 0
  for (let bucket = 0; bucket < BUCKETS; bucket++) {
    const centre = (2 * bucket) / (BUCKETS - 1) - 1
    const distance = (at: number) => Math.abs(values[at]! - centre)
    while (code + 1 < values.length && distance(code + 1) < distance(code)) code++
    codes[bucket] = code
  }
  return codes
}

import { overStretches } from './stretches.ts'

/** Fine enough that the bucket at the edge holds few values: only these are sorted. */
const BUCKETS = 1024
const counts = new Uint32Array(BUCKETS)

function lowest(values: Float32Array, from: number, to: number, before: number): number {
  let low = before
  for (let at = from; at < to; at++) {
    const value = values[at]!
    if (value < low && value !== Number.NEGATIVE_INFINITY) low = value
  }
  return low
}

interface Scale {
  low: number
  high: number
  /** Buckets per unit, the highest value in the first one. */
  perUnit: number
}

function count(values: Float32Array, from: number, to: number, scale: Scale): number {
  const { low, high, perUnit } = scale
  for (let at = from; at < to; at++) {
    const value = values[at]!
    if (value >= low) counts[((high - value) * perUnit) | 0]!++
  }
  return 0
}

function gather(
  values: Float32Array,
  from: number,
  to: number,
  scale: Scale,
  bucket: number,
  into: number[],
): number {
  const { low, high, perUnit } = scale
  for (let at = from; at < to; at++) {
    const value = values[at]!
    if (value >= low && (((high - value) * perUnit) | 0) === bucket) into.push(value)
  }
  return 0
}

/** The k-th highest value; the lowest finite one when there are fewer. @param high the highest */
export function kthHighest(values: Float32Array, k: number, high: number): number {
  const { length } = values
  const low = overStretches(length, high, (from, to, before) => lowest(values, from, to, before))
  if (low === high) return low
  const scale = { low, high, perUnit: (BUCKETS - 1) / (high - low) }
  counts.fill(0)
  overStretches(length, 0, (from, to) => count(values, from, to, scale))
  let edge = 0
  let above = 0
  while (edge < BUCKETS && above + counts[edge]! < k) above += counts[edge++]!
  if (edge === BUCKETS) return low
  const atEdge: number[] = []
  overStretches(length, 0, (from, to) => gather(values, from, to, scale, edge, atEdge))
  atEdge.sort((a, b) => b - a)
  return atEdge[k - above - 1]!
}

import type { Sampling } from '@graft/sdk/protocol/runner-api.ts'
import { argmax } from './argmax.ts'
import { expOfNegative } from './exp.ts'

export type Cuts = Pick<Sampling, 'temperature' | 'topK' | 'topP' | 'minP'>

/** Tokens that may be drawn, by ascending id, with unnormalised weights. Valid until the next call. */
export interface Candidates {
  count: number
  ids: Int32Array
  weights: Float64Array
  /** Sum of the weights. */
  mass: number
}

/** One set for the thread: sampling never waits in between, and a fresh 600 KB per token is what garbage collection would pay. */
const scratch: Candidates = {
  count: 0,
  ids: new Int32Array(0),
  weights: new Float64Array(0),
  mass: 0,
}

function scratchOf(vocab: number): Candidates {
  if (scratch.ids.length < vocab) {
    scratch.ids = new Int32Array(vocab)
    scratch.weights = new Float64Array(vocab)
    buckets = new Uint16Array(vocab)
  }
  scratch.count = 0
  return scratch
}

/** Fine enough that the bucket at the edge holds few tokens: only these are sorted. */
const BUCKETS = 1024
const counts = new Uint32Array(BUCKETS)
const masses = new Float64Array(BUCKETS)
/** [candidates] */
let buckets = new Uint16Array(0)

/** The k-th highest of the first `size` values; `low` when there are fewer finite ones. */
function kthHighest(values: Float32Array, k: number, high: number): number {
  let low = high
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!
    if (value < low && value !== Number.NEGATIVE_INFINITY) low = value
  }
  if (low === high) return low
  const perUnit = (BUCKETS - 1) / (high - low)
  counts.fill(0)
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!
    if (value >= low) counts[((high - value) * perUnit) | 0]!++
  }
  let edge = 0
  let above = 0
  while (edge < BUCKETS && above + counts[edge]! < k) above += counts[edge++]!
  if (edge === BUCKETS) return low
  const atEdge: number[] = []
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!
    if (value >= low && (((high - value) * perUnit) | 0) === edge) atEdge.push(value)
  }
  atEdge.sort((a, b) => b - a)
  return atEdge[k - above - 1]!
}

/** Keeps tokens at or above `floor`, at most `most` of them: of equals at the floor the lowest ids. */
function collect(
  into: Candidates,
  logits: Float32Array,
  floor: number,
  most: number,
  peak: number,
  temperature: number,
): void {
  const { ids, weights } = into
  const sharpness = 1 / temperature
  let spare = most
  if (most < logits.length)
    for (let id = 0; id < logits.length; id++) if (logits[id]! > floor) spare--
  let count = 0
  let mass = 0
  for (let id = 0; id < logits.length; id++) {
    const value = logits[id]!
    if (!(value >= floor) || (value === floor && spare-- <= 0)) continue
    const weight = expOfNegative((value - peak) * sharpness)
    if (weight === 0) continue
    ids[count] = id
    weights[count++] = weight
    mass += weight
  }
  into.count = count
  into.mass = mass
}

/** Keeps candidates of at least this weight, in their order. */
function retainFrom(from: Candidates, least: number): void {
  const { ids, weights } = from
  let count = 0
  let mass = 0
  for (let i = 0; i < from.count; i++) {
    const weight = weights[i]!
    if (weight < least) continue
    ids[count] = ids[i]!
    weights[count++] = weight
    mass += weight
  }
  from.count = count
  from.mass = mass
}

/** Keeps candidates whose bucket is below `end`, in their order. */
function retainBuckets(from: Candidates, end: number): void {
  const { ids, weights } = from
  let count = 0
  let mass = 0
  for (let i = 0; i < from.count; i++) {
    if (buckets[i]! >= end) continue
    const weight = weights[i]!
    ids[count] = ids[i]!
    weights[count++] = weight
    mass += weight
  }
  from.count = count
  from.mass = mass
}

/** The fewest heaviest candidates whose weights reach `share` of the mass; of equals the lowest ids. */
function nucleus(from: Candidates, share: number, logits: Float32Array, peak: number): void {
  const { ids, weights } = from
  const wanted = share * from.mass
  // All tokens lighter than this together weigh less than what may be left out, so none of them is in the nucleus.
  retainFrom(from, Math.min(((1 - share) * from.mass) / from.count, 1))
  let low = peak
  for (let i = 0; i < from.count; i++) if (logits[ids[i]!]! < low) low = logits[ids[i]!]!
  // By logit, not by weight: logits are spread evenly over the buckets.
  const perUnit = low < peak ? (BUCKETS - 1) / (peak - low) : 0
  masses.fill(0)
  for (let i = 0; i < from.count; i++) {
    const bucket = ((peak - logits[ids[i]!]!) * perUnit) | 0
    buckets[i] = bucket
    masses[bucket]! += weights[i]!
  }
  let edge = 0
  let mass = 0
  while (edge < BUCKETS - 1 && mass + masses[edge]! < wanted) mass += masses[edge++]!
  const atEdge: number[] = []
  for (let i = 0; i < from.count; i++) if (buckets[i] === edge) atEdge.push(i)
  atEdge.sort((a, b) => weights[b]! - weights[a]! || a - b)
  for (const i of atEdge) {
    if (mass >= wanted) buckets[i] = BUCKETS
    mass += weights[i]!
  }
  retainBuckets(from, edge + 1)
}

/** What may be drawn from [vocab] logits after temperature, min-p, top-k and top-p, in this order (as vLLM's sampler). */
export function candidatesOf(logits: Float32Array, cuts: Cuts): Candidates {
  const { temperature, minP, topK, topP } = cuts
  const peak = logits[argmax(logits)]!
  const found = scratchOf(logits.length)
  const cutK = topK > 0 && topK < logits.length
  const kth = cutK ? kthHighest(logits, topK, peak) : Number.NEGATIVE_INFINITY
  // A little below where min-p cuts, to save exponentials; the exact cut follows.
  const near = minP > 0 ? peak + temperature * (Math.log(minP) - 1e-3) : Number.NEGATIVE_INFINITY
  collect(found, logits, Math.max(kth, near), cutK ? topK : logits.length, peak, temperature)
  // Of weights that are e^((logit - peak) / temperature) the heaviest is 1.
  if (minP > 0) retainFrom(found, minP)
  if (topP < 1) nucleus(found, topP, logits, peak)
  return found
}

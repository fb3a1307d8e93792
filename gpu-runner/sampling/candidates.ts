import type { Sampling } from '@graft/sdk/protocol/runner-api.ts'
import { argmax } from './argmax.ts'
import { expOfNegative } from './exp.ts'
import { kthHighest } from './kth-highest.ts'
import { overStretches } from './stretches.ts'

export type Cuts = Pick<Sampling, 'temperature' | 'topK' | 'topP' | 'minP'>

/** Tokens that may be drawn, by ascending id, with unnormalised weights. Valid until the next call. */
export interface Candidates {
  count: number
  ids: Int32Array
  weights: Float64Array
  /** Sum of the weights. */
  mass: number
}

/** One set for the thread: sampling never waits in between, and garbage collection would pay for 600 KB a token. */
const scratch: Candidates = {
  count: 0,
  ids: new Int32Array(0),
  weights: new Float64Array(0),
  mass: 0,
}
/** By logit, of candidates: only the bucket in which the nucleus ends is sorted. */
const BUCKETS = 1024
const masses = new Float64Array(BUCKETS)
/** [candidates] */
let buckets = new Uint16Array(0)

function scratchOf(vocab: number): Candidates {
  if (scratch.ids.length < vocab) {
    scratch.ids = new Int32Array(vocab)
    scratch.weights = new Float64Array(vocab)
    buckets = new Uint16Array(vocab)
  }
  scratch.count = 0
  scratch.mass = 0
  return scratch
}

function above(logits: Float32Array, from: number, to: number, before: number, floor: number) {
  let count = before
  for (let id = from; id < to; id++) if (logits[id]! > floor) count++
  return count
}

interface Collecting {
  peak: number
  sharpness: number
  /** Logits below are left out. */
  floor: number
  /** Tokens lighter count in the mass and are not kept. */
  least: number
}

/** @returns how many logits equal to the floor may still come */
function collect(
  into: Candidates,
  logits: Float32Array,
  from: number,
  to: number,
  before: number,
  { peak, sharpness, floor, least }: Collecting,
): number {
  const { ids, weights } = into
  let { count, mass } = into
  let spare = before
  for (let id = from; id < to; id++) {
    const value = logits[id]!
    if (!(value >= floor) || (value === floor && spare-- <= 0)) continue
    const weight = expOfNegative((value - peak) * sharpness)
    mass += weight
    // Written in any case and kept or not: a branch that cannot be foretold costs more than a write.
    ids[count] = id
    weights[count] = weight
    count += Number(weight >= least)
  }
  into.count = count
  into.mass = mass
  return spare
}

/** Keeps candidates of at least this weight, in their order. */
function retainFrom(from: Candidates, least: number): void {
  const { ids, weights, count } = from
  from.mass = 0
  from.count = overStretches(count, 0, (at, to, kept) => {
    let into = kept
    let mass = 0
    for (let i = at; i < to; i++) {
      const weight = weights[i]!
      const keep = Number(weight >= least)
      ids[into] = ids[i]!
      weights[into] = weight
      into += keep
      mass += keep * weight
    }
    from.mass += mass
    return into
  })
}

/** Keeps candidates whose bucket is below `end`, in their order. */
function retainBuckets(from: Candidates, end: number): void {
  const { ids, weights, count } = from
  from.mass = 0
  from.count = overStretches(count, 0, (at, to, kept) => {
    let into = kept
    let mass = 0
    for (let i = at; i < to; i++) {
      const weight = weights[i]!
      const keep = Number(buckets[i]! < end)
      ids[into] = ids[i]!
      weights[into] = weight
      into += keep
      mass += keep * weight
    }
    from.mass += mass
    return into
  })
}

/** The fewest heaviest candidates whose weights reach `share` of the mass; of equals the lowest ids. */
function nucleus(from: Candidates, share: number, logits: Float32Array, peak: number): void {
  const { ids, weights } = from
  const wanted = share * from.mass
  // As `least` when they were collected, now that the mass is known.
  retainFrom(from, Math.min(((1 - share) * from.mass) / logits.length, 1))
  const low = overStretches(from.count, peak, (at, to, before) => {
    let lowest = before
    for (let i = at; i < to; i++) if (logits[ids[i]!]! < lowest) lowest = logits[ids[i]!]!
    return lowest
  })
  // By logit, not by weight: logits are spread evenly over the buckets.
  const perUnit = low < peak ? (BUCKETS - 1) / (peak - low) : 0
  masses.fill(0)
  overStretches(from.count, 0, (at, to) => {
    for (let i = at; i < to; i++) {
      const bucket = ((peak - logits[ids[i]!]!) * perUnit) | 0
      buckets[i] = bucket
      masses[bucket]! += weights[i]!
    }
    return 0
  })
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
  const { length } = logits
  const peak = logits[argmax(logits)]!
  const found = scratchOf(length)
  const cutK = topK > 0 && topK < length
  const kth = cutK ? kthHighest(logits, topK, peak) : Number.NEGATIVE_INFINITY
  // A little below where min-p cuts, to save exponentials; the exact cut follows.
  const near = minP > 0 ? peak + temperature * (Math.log(minP) - 1e-3) : Number.NEGATIVE_INFINITY
  const floor = Math.max(kth, near)
  // Of equals at the floor the lowest ids fill what is left of top-k.
  const spare = cutK
    ? topK - overStretches(length, 0, (from, to, n) => above(logits, from, to, n, floor))
    : length
  // All tokens lighter than this together weigh less than top-p may leave out, so none of them is in the nucleus.
  const least = topP < 1 && minP === 0 ? (1 - topP) / length : Number.MIN_VALUE
  const how = { peak, sharpness: 1 / temperature, floor, least }
  overStretches(length, spare, (from, to, left) => collect(found, logits, from, to, left, how))
  // Of weights that are e^((logit - peak) / temperature) the heaviest is 1.
  if (minP > 0) retainFrom(found, minP)
  if (topP < 1) nucleus(found, topP, logits, peak)
  return found
}

import type { Sampling } from '@graft/sdk/protocol/runner-api.ts'

type Cuts = Pick<Sampling, 'temperature' | 'topK' | 'topP' | 'minP'>

/** The highest logit; of equals the lowest id. */
export function argmax(logits: Float32Array): number {
  let best = 0
  for (let id = 1; id < logits.length; id++) if (logits[id]! > logits[best]!) best = id
  return best
}

/** Fine enough that the bucket at the edge holds few of 100,000 logits: what is sorted then costs less than the exponentials. */
const BUCKETS = 1024

/**
 * Keeps the largest weights, of equals the lowest ids, until `enough(count, mass)` of them are kept; others become 0.
 * Logits go into buckets by size, and only the bucket at the edge is sorted.
 */
function keepUntil(
  weights: Float64Array,
  logits: Float32Array,
  enough: (count: number, mass: number) => boolean,
): void {
  let low = Number.POSITIVE_INFINITY
  let high = Number.NEGATIVE_INFINITY
  for (let id = 0; id < weights.length; id++) {
    if (weights[id] === 0) continue
    low = Math.min(low, logits[id]!)
    high = Math.max(high, logits[id]!)
  }
  const width = (high - low) / (BUCKETS - 1) || 1
  const bucketOf = (id: number): number => Math.floor((high - logits[id]!) / width)
  const counts = new Uint32Array(BUCKETS)
  const masses = new Float64Array(BUCKETS)
  for (let id = 0; id < weights.length; id++) {
    if (weights[id] === 0) continue
    counts[bucketOf(id)]!++
    masses[bucketOf(id)]! += weights[id]!
  }
  let edge = 0
  let count = 0
  let mass = 0
  while (edge < BUCKETS && !enough(count + counts[edge]!, mass + masses[edge]!)) {
    count += counts[edge]!
    mass += masses[edge]!
    edge++
  }
  const atEdge: number[] = []
  for (let id = 0; id < weights.length; id++) {
    if (weights[id] === 0) continue
    const bucket = bucketOf(id)
    if (bucket === edge) atEdge.push(id)
    if (bucket > edge) weights[id] = 0
  }
  atEdge.sort((a, b) => logits[b]! - logits[a]! || a - b)
  for (const id of atEdge) {
    if (count > 0 && enough(count, mass)) {
      weights[id] = 0
      continue
    }
    count++
    mass += weights[id]!
  }
}

const sum = (weights: Float64Array): number => {
  let total = 0
  for (let id = 0; id < weights.length; id++) total += weights[id]!
  return total
}

/** [vocab] unnormalised weights after temperature, min-p, top-k and top-p, in this order (as vLLM's sampler). */
export function tokenWeights(logits: Float32Array, cuts: Cuts): Float64Array {
  const { temperature, minP, topK, topP } = cuts
  const peak = logits[argmax(logits)]!
  const weights = new Float64Array(logits.length)
  for (let id = 0; id < logits.length; id++) {
    const weight = Math.exp((logits[id]! - peak) / temperature)
    weights[id] = weight < minP ? 0 : weight
  }
  if (topK > 0 && topK < logits.length) keepUntil(weights, logits, (count) => count >= topK)
  if (topP < 1) {
    const share = topP * sum(weights)
    keepUntil(weights, logits, (_, mass) => mass >= share)
  }
  return weights
}

/**
 * Picks the next token from [vocab] adjusted logits. `unit` is in [0, 1) and decides alone:
 * tokens share [0, 1) in the order of their ids. Temperature 0 is greedy and reads no random number.
 */
export function sampleToken(logits: Float32Array, cuts: Cuts, unit: number): number {
  if (cuts.temperature === 0) return argmax(logits)
  const weights = tokenWeights(logits, cuts)
  let left = unit * sum(weights)
  let last = 0
  for (let id = 0; id < weights.length; id++) {
    if (weights[id] === 0) continue
    last = id
    if ((left -= weights[id]!) < 0) return id
  }
  return last
}

import type { Sampling } from '@graft/sdk/protocol/runner-api.ts'

type Cuts = Pick<Sampling, 'temperature' | 'topK' | 'topP' | 'minP'>

/** The highest logit; of equals the lowest id. */
export function argmax(logits: Float32Array): number {
  let best = 0
  for (let id = 1; id < logits.length; id++) if (logits[id]! > logits[best]!) best = id
  return best
}

/** Keeps the `count` largest weights; of equals at the edge the lowest ids. Others become 0. */
function keepLargest(weights: Float64Array, count: number): void {
  if (count >= weights.length) return
  const sorted = weights.slice().sort()
  const edge = sorted[sorted.length - count]!
  let above = 0
  for (const weight of weights) if (weight > edge) above++
  let ties = count - above
  for (const [id, weight] of weights.entries())
    if (weight < edge || (weight === edge && ties-- <= 0)) weights[id] = 0
}

/** Keeps the fewest largest weights whose sum reaches `share` of the total. */
function keepNucleus(weights: Float64Array, share: number): void {
  let total = 0
  for (const weight of weights) total += weight
  // All weights below this add up to less than what the cut may drop: they need no sorting.
  const floor = ((1 - share) * total) / weights.length
  const candidates = weights.filter((weight) => weight >= floor).sort()
  let mass = 0
  let count = 0
  while (count < candidates.length && (count === 0 || mass < share * total))
    mass += candidates[candidates.length - ++count]!
  keepLargest(weights, Math.max(count, 1))
}

/** [vocab] unnormalised weights after temperature, min-p, top-k and top-p, in this order (as vLLM's sampler). */
export function tokenWeights(logits: Float32Array, cuts: Cuts): Float64Array {
  const peak = logits[argmax(logits)]!
  const weights = new Float64Array(logits.length)
  for (let id = 0; id < logits.length; id++)
    weights[id] = Math.exp((logits[id]! - peak) / cuts.temperature)
  if (cuts.minP > 0)
    for (const [id, weight] of weights.entries()) if (weight < cuts.minP) weights[id] = 0
  if (cuts.topK > 0) keepLargest(weights, cuts.topK)
  if (cuts.topP < 1) keepNucleus(weights, cuts.topP)
  return weights
}

/**
 * Picks the next token from [vocab] adjusted logits. `unit` is in [0, 1) and decides alone:
 * tokens share [0, 1) in the order of their ids. Temperature 0 is greedy and reads no random number.
 */
export function sampleToken(logits: Float32Array, cuts: Cuts, unit: number): number {
  if (cuts.temperature === 0) return argmax(logits)
  const weights = tokenWeights(logits, cuts)
  let total = 0
  for (const weight of weights) total += weight
  let left = unit * total
  let last = 0
  for (const [id, weight] of weights.entries()) {
    if (weight === 0) continue
    last = id
    if ((left -= weight) < 0) return id
  }
  return last
}

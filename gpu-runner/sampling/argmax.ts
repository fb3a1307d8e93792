/** The highest logit; of equals the lowest id. */
export function argmax(logits: Float32Array): number {
  let best = 0
  let highest = logits[0]!
  for (let id = 1; id < logits.length; id++) {
    const value = logits[id]!
    if (value > highest) {
      highest = value
      best = id
    }
  }
  return best
}

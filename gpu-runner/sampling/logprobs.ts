export interface TokenLogprobs {
  id: number
  logprob: number
  top: { id: number; logprob: number }[]
}

/**
 * Natural log probabilities under the model itself: [vocab] raw logits, before bias, penalties and temperature.
 * `count` of the most probable, best first, equals by id.
 */
export function tokenLogprobs(logits: Float32Array, id: number, count: number): TokenLogprobs {
  let peak = Number.NEGATIVE_INFINITY
  for (const value of logits) if (value > peak) peak = value
  let sum = 0
  for (const value of logits) sum += Math.exp(value - peak)
  const norm = peak + Math.log(sum)
  const top: number[] = []
  for (let at = 0; count > 0 && at < logits.length; at++) {
    if (top.length === count && logits[at]! <= logits[top.at(-1)!]!) continue
    let place = top.length
    while (place > 0 && logits[top[place - 1]!]! < logits[at]!) place--
    top.splice(place, 0, at)
    top.length = Math.min(top.length, count)
  }
  const row = (at: number) => ({ id: at, logprob: logits[at]! - norm })
  return { ...row(id), top: top.map(row) }
}

import { argmax } from './argmax.ts'
import { expOfNegative } from './exp.ts'
import { overStretches } from './stretches.ts'

export interface TokenLogprobs {
  id: number
  logprob: number
  top: { id: number; logprob: number }[]
}

function massOf(logits: Float32Array, from: number, to: number, before: number, peak: number) {
  let sum = before
  for (let at = from; at < to; at++) sum += expOfNegative(logits[at]! - peak)
  return sum
}

/**
 * Natural log probabilities under the model itself: [vocab] raw logits, before bias, penalties and temperature.
 * `count` of the most probable, best first, equals by id.
 */
export function tokenLogprobs(logits: Float32Array, id: number, count: number): TokenLogprobs {
  const peak = logits[argmax(logits)]!
  const sum = overStretches(logits.length, 0, (from, to, before) =>
    massOf(logits, from, to, before, peak),
  )
  const norm = peak + Math.log(sum)
  const top: number[] = []
  let lowest = Number.NEGATIVE_INFINITY
  for (let at = 0; count > 0 && at < logits.length; at++) {
    if (top.length === count && logits[at]! <= lowest) continue
    let place = top.length
    while (place > 0 && logits[top[place - 1]!]! < logits[at]!) place--
    top.splice(place, 0, at)
    top.length = Math.min(top.length, count)
    lowest = logits[top.at(-1)!]!
  }
  const row = (at: number) => ({ id: at, logprob: logits[at]! - norm })
  return { ...row(id), top: top.map(row) }
}

import { overStretches } from './stretches.ts'

function best(logits: Float32Array, from: number, to: number, before: number): number {
  let id = before
  let highest = logits[before]!
  for (let at = from; at < to; at++) {
    const value = logits[at]!
    if (value > highest) {
      highest = value
      id = at
    }
  }
  return id
}

/** The highest logit; of equals the lowest id. */
export const argmax = (logits: Float32Array): number =>
  overStretches(logits.length, 0, (from, to, before) => best(logits, from, to, before))

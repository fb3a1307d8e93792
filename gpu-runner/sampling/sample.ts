import { argmax } from './argmax.ts'
import { type Cuts, candidatesOf } from './candidates.ts'

/**
 * Picks the next token from [vocab] adjusted logits. `unit` is in [0, 1) and decides alone:
 * candidates share [0, 1) in the order of their ids. Temperature 0 is greedy and reads no random number.
 */
export function sampleToken(logits: Float32Array, cuts: Cuts, unit: number): number {
  if (cuts.temperature === 0) return argmax(logits)
  const { count, ids, weights, mass } = candidatesOf(logits, cuts)
  let left = unit * mass
  for (let i = 0; i < count - 1; i++) if ((left -= weights[i]!) < 0) return ids[i]!
  return ids[count - 1]!
}

/** Picks that are refused one by one before all tokens are asked about. */
const MAX_REFUSED = 32

/**
 * As sampleToken, among tokens that `allows` takes: what it refuses is taken out of the logits, in place, and the same
 * number decides again. null when nothing is left.
 */
export function sampleAllowed(
  logits: Float32Array,
  allows: (id: number) => boolean,
  cuts: Cuts,
  unit: number,
): number | null {
  for (let refused = 0; refused < MAX_REFUSED; refused++) {
    const id = sampleToken(logits, cuts, unit)
    if (logits[id] === Number.NEGATIVE_INFINITY) return null
    if (allows(id)) return id
    logits[id] = Number.NEGATIVE_INFINITY
  }
  for (let id = 0; id < logits.length; id++)
    if (logits[id]! > Number.NEGATIVE_INFINITY && !allows(id)) logits[id] = Number.NEGATIVE_INFINITY
  const id = sampleToken(logits, cuts, unit)
  return logits[id] === Number.NEGATIVE_INFINITY ? null : id
}

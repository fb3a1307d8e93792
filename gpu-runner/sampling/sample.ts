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

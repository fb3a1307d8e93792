import { GraftError } from '@graft/sdk/format/errors.ts'
import { assertSum } from '../rules.ts'
import type { CompiledAdapter } from './compiled-adapter.ts'

export interface Term {
  adapter: CompiledAdapter
  weight: number
}

/** @throws ERR_NOT_COMPOSABLE when the terms cannot be summed */
export function assertComposable(terms: Term[]): void {
  assertSum(terms)
  // Alone with weight 1: nothing is summed, so nothing can cross.
  if (terms.length <= 1 && terms.every(({ weight }) => weight === 1)) return
  // c * W(l * x) of a summed c and a summed l has cross terms that the sum of deltas has not.
  for (const { adapter } of terms)
    for (const site of adapter.inVectors.keys())
      if (terms.some((term) => term.adapter.outVectors.has(site)))
        throw new GraftError(
          'ERR_NOT_COMPOSABLE',
          `${site} has factors on its input and its output in this sum: call the adapters alone with weight 1`,
        )
}

/**
 * The exact sum of deltas for vectors: W' x - W x of term i is (c_i - 1) * Wx, so the row's factor is
 * 1 + sum of w_i (c_i - 1). Undefined where no term has a vector.
 */
export function sumVectors(
  terms: Term[],
  of: (adapter: CompiledAdapter) => Float32Array | undefined,
): Float32Array | undefined {
  const present = terms.flatMap(({ adapter, weight }) => {
    const vector = of(adapter)
    return vector ? [{ vector, weight }] : []
  })
  const first = present[0]
  if (!first) return undefined
  if (present.length === 1 && first.weight === 1) return first.vector
  const sum = new Float32Array(first.vector.length).fill(1)
  for (const { vector, weight } of present)
    for (let i = 0; i < sum.length; i++) sum[i]! += weight * (vector[i]! - 1)
  return sum
}

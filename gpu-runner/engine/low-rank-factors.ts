import { GraftError } from '@graft/sdk/format/errors.ts'
import type { Dense, LowRank, Magnitude } from '@graft/sdk/format/operations.ts'

/** A tensor of the adapter by name, of the shape that its operation implies. */
type Take = (name: string, shape: number[]) => Float32Array

/**
 * A [rank, in] and D B E [out, rank] of an update: its vectors of factors folded into B, its scale not. B is the
 * tensor itself where there is nothing to fold, so it is not written to.
 */
export function lowRankFactors(
  operation: LowRank | Magnitude,
  take: Take,
): { a: Float32Array; b: Float32Array } {
  const { rank, out, slots } = operation
  const a = take(slots.A, [rank, operation.in])
  const plain = take(slots.B, [out, rank])
  const e = 'E' in slots && slots.E !== undefined ? take(slots.E, [rank]) : null
  const d = 'D' in slots && slots.D !== undefined ? take(slots.D, [out]) : null
  if (e === null && d === null) return { a, b: plain }
  const b = new Float32Array(plain.length)
  for (let o = 0; o < out; o++)
    for (let r = 0; r < rank; r++)
      b[o * rank + r] = (d?.[o] ?? 1) * plain[o * rank + r]! * (e?.[r] ?? 1)
  return { a, b }
}

/**
 * Updates of what is no single linear layer are refused, whatever engine is asked.
 * @param sites paths of the linears that the engine adapts
 * @throws ERR_OPERATION_UNSUPPORTED
 */
export function assertOneLinear(
  operation: LowRank | Magnitude | Dense,
  sites: { has(path: string): boolean },
): void {
  const refuse = (what: string): never => {
    throw new GraftError(
      'ERR_OPERATION_UNSUPPORTED',
      `${operation.op} at ${operation.site}: ${what}; merge it into the base with the tool that trained it, and serve that base`,
    )
  }
  if ('experts' in operation && operation.experts !== undefined)
    refuse(`this engine has no stacks of experts (${operation.experts} here)`)
  if ('kernel' in operation && operation.kernel !== undefined)
    refuse(`this engine has no convolutions (kernel [${operation.kernel}])`)
  if (!sites.has(operation.site)) refuse('this engine adapts the linears of the blocks only')
}

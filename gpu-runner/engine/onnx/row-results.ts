import type { RowResult } from '../engine.ts'
import type { Run } from './plan-runs.ts'

/** Which positions of a run's logits are wanted. */
export interface Wanted {
  /** Indices into B * T. */
  take: number[]
  /** The row that each of them belongs to. */
  takeRows: number[]
}

/** @param virtual [B] virtual positions that stand before each row's first token */
export function positionsWanted(plan: Run, virtual: number[]): Wanted {
  const take: number[] = []
  const takeRows: number[] = []
  for (const [b, entry] of plan.rows.entries()) {
    if (!entry || entry.row.logits === 'none') continue
    const first = entry.row.logits === 'last' ? plan.tokens - 1 : virtual[b]!
    for (let t = first; t < plan.tokens; t++) {
      take.push(b * plan.tokens + t)
      takeRows.push(b)
    }
  }
  return { take, takeRows }
}

/**
 * Deals the logits of a run [P, vocab] to its rows.
 * @param finite [B] whether each row's values are finite before the output head
 */
export function rowResults(
  plan: Run,
  { takeRows }: Wanted,
  logits: Float32Array,
  vocab: number,
  finite: boolean[],
): RowResult[] {
  let at = 0
  return plan.rows.flatMap((entry, b) => {
    if (!entry) return []
    const count = takeRows.filter((row) => row === b).length
    // A view: copying the logits of 16 rows of a large vocabulary would cost a tenth of the step.
    const own = logits.subarray(at * vocab, (at + count) * vocab)
    at += count
    return [{ sequence: entry.sequence.id, logits: own, finite: finite[b]! && isFinite32(own) }]
  })
}

/** A plain loop: over a whole vocabulary a callback per value costs as much as a layer. */
export function isFinite32(values: Float32Array): boolean {
  // v - v is 0 for every finite v, NaN for the others, and NaN survives the sum.
  // Four sums, since each addition waits for the one before it.
  let [a, b, c, d] = [0, 0, 0, 0]
  const whole = values.length & ~3
  for (let i = 0; i < whole; i += 4) {
    a += values[i]! - values[i]!
    b += values[i + 1]! - values[i + 1]!
    c += values[i + 2]! - values[i + 2]!
    d += values[i + 3]! - values[i + 3]!
  }
  for (let i = whole; i < values.length; i++) a += values[i]! - values[i]!
  return a + b + c + d === 0
}

import { denseRows } from '@graft/sdk/format/dense/rows.ts'
import type { Dense, LowRank, Magnitude, Scale } from '@graft/sdk/format/operations.ts'
import { denseValues } from '../dense-values.ts'
import { lowRankFactors } from '../low-rank-factors.ts'

/** Operations that change the matrix of one linear. */
export type LinearOperation = LowRank | Magnitude | Scale | Dense

/** A tensor of the adapter. @throws ERR_TENSOR_MISSING, ERR_TENSOR_SHAPE */
export type Take = (name: string, shape: number[]) => Float32Array

/**
 * W' [out, in] of a linear under all its operations, from the base's W: first IA3's rows and columns, then each
 * s B A and dW, then DoRA's g on all of it, as the formulas of sdk/format/operations.ts nest. A row is summed in f64 and
 * rounded once.
 */
export function mergeLinear(
  w: Float32Array,
  [out, inner]: readonly [number, number],
  operations: readonly LinearOperation[],
  take: Take,
): Float32Array {
  const steps = operations.map((operation) => rowStep(operation, [out, inner], take))
  const merged = new Float32Array(w.length)
  const row = new Float64Array(inner)
  const plain = new Float64Array(inner)
  for (let o = 0; o < out; o++) {
    for (let i = 0; i < inner; i++) plain[i] = row[i] = w[o * inner + i]!
    for (const step of steps) step(row, o, plain)
    merged.set(row, o * inner)
  }
  return merged
}

/** Changes row o of W in place; `plain` is that row of the base. */
type RowStep = (row: Float64Array, o: number, plain: Float64Array) => void

function rowStep(
  operation: LinearOperation,
  [out, inner]: readonly [number, number],
  take: Take,
): RowStep {
  switch (operation.op) {
    case 'scale': {
      const l = take(operation.slots.l, [operation.side === 'input' ? inner : out])
      if (operation.side === 'input')
        return (row) => {
          for (let i = 0; i < inner; i++) row[i]! *= l[i]!
        }
      return (row, o) => {
        for (let i = 0; i < inner; i++) row[i]! *= l[o]!
      }
    }
    case 'dense':
      return denseStep(operation, take)
    case 'low_rank':
      return addProduct(operation, inner, take)
    case 'magnitude': {
      const add = addProduct(operation, inner, take)
      const m = take(operation.slots.m, [out])
      const direction = new Float64Array(inner)
      return (row, o, plain) => {
        add(row, o)
        // The norm is that of W + s B A (arXiv 2402.09353), whatever else stands at the site.
        direction.set(plain)
        add(direction, o)
        let squares = 0
        for (let i = 0; i < inner; i++) squares += direction[i]! * direction[i]!
        const g = m[o]! / Math.sqrt(squares)
        for (let i = 0; i < inner; i++) row[i]! *= g
      }
    }
    default:
      operation satisfies never
      throw new TypeError(`no matrix of ${JSON.stringify(operation)}`)
  }
}

/** row o += dW[o], of the base's own W where dW depends on it, whatever else stands at the site. */
function denseStep(operation: Dense, take: Take): RowStep {
  const change = denseRows(operation, denseValues(operation, take))
  const changed = new Float64Array(operation.in)
  return (row, o, plain) => {
    changed.set(plain)
    change(changed, o)
    for (let i = 0; i < row.length; i++) row[i]! += changed[i]! - plain[i]!
  }
}

/** row o += s (D B E A)[o]. A [rank, in], B [out, rank]. Four ranks a pass: the row is read and written a quarter as often. */
function addProduct(
  operation: LowRank | Magnitude,
  inner: number,
  take: Take,
): (row: Float64Array, o: number) => void {
  const { rank } = operation
  const { a, b } = lowRankFactors(operation, take)
  const s = Number(operation.scale)
  return (row, o) => {
    let r = 0
    for (; r + 4 <= rank; r += 4) {
      const at = o * rank + r
      const [b0, b1, b2, b3] = [s * b[at]!, s * b[at + 1]!, s * b[at + 2]!, s * b[at + 3]!]
      const [a0, a1, a2, a3] = [r * inner, (r + 1) * inner, (r + 2) * inner, (r + 3) * inner]
      for (let i = 0; i < inner; i++)
        row[i]! += b0 * a[a0 + i]! + b1 * a[a1 + i]! + b2 * a[a2 + i]! + b3 * a[a3 + i]!
    }
    for (; r < rank; r++) {
      const factor = s * b[o * rank + r]!
      for (let i = 0; i < inner; i++) row[i]! += factor * a[r * inner + i]!
    }
  }
}

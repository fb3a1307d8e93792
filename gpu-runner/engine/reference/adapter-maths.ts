import { denseRows } from '@graft/sdk/format/dense/rows.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import type { Dense, Magnitude, Operation } from '@graft/sdk/format/operations.ts'
import type { LoadedAdapter } from '../engine.ts'
import { product } from './maths.ts'

export interface WeightedAdapter {
  adapter: LoadedAdapter
  weight: number
}

export function slot(adapter: LoadedAdapter, name: string): Float32Array {
  const tensor = adapter.tensors.get(name)
  if (tensor) return tensor.data
  throw new GraftError('ERR_TENSOR_MISSING', `the tensor ${name} of ${adapter.digest} is missing`)
}

/** The operations of one kind at one site, as the manifest wrote them. */
export const operationsAt = <K extends Operation['op']>(
  adapter: LoadedAdapter,
  op: K,
  site: string,
): Extract<Operation, { op: K }>[] =>
  adapter.operations.filter(
    (operation): operation is Extract<Operation, { op: K }> =>
      operation.op === op && operation.site === site,
  )

/** g = m / row norm of (W + scale * B A), [out]. W [out, in], B [out, rank], A [rank, in]. */
function directionFactor(
  adapter: LoadedAdapter,
  operation: Magnitude,
  w: Float32Array,
): Float64Array {
  const { in: inner, out, rank, slots } = operation
  const [a, b, m] = [slot(adapter, slots.A), slot(adapter, slots.B), slot(adapter, slots.m)]
  const g = new Float64Array(out)
  for (let o = 0; o < out; o++) {
    let squares = 0
    for (let i = 0; i < inner; i++) {
      let change = 0
      for (let r = 0; r < rank; r++) change += b[o * rank + r]! * a[r * inner + i]!
      squares += (w[o * inner + i]! + Number(operation.scale) * change) ** 2
    }
    g[o] = m[o]! / Math.sqrt(squares)
  }
  return g
}

/** DoRA's factors, which depend on weights alone: kept per operation. */
const factors = new WeakMap<Magnitude, Float64Array>()

/** dW [out, in] of forms that are sums with W, kept per operation. */
const deltas = new WeakMap<Dense, Float64Array>()

function denseDelta(adapter: LoadedAdapter, operation: Dense): Float64Array {
  const known = deltas.get(operation)
  if (known) return known
  const add = denseRows(operation, (name) => slot(adapter, name))
  const delta = new Float64Array(operation.out * operation.in)
  for (let o = 0; o < operation.out; o++)
    add(delta.subarray(o * operation.in, (o + 1) * operation.in), o)
  deltas.set(operation, delta)
  return delta
}

/** A linear of the base: W [out, in] and its bias [out], null where it has none. */
export interface Linear {
  w: Float32Array
  bias: Float32Array | null
}

/** The tensor that an adapter puts in the place of the base's, where it does. */
export function replaced(
  adapter: LoadedAdapter,
  site: string,
  param: 'weight' | 'bias',
): Float32Array | null {
  const found = operationsAt(adapter, 'replace', site).find(
    (operation) => operation.param === param && !operation.rows,
  )
  return found ? slot(adapter, found.slots.value) : null
}

/** What one adapter makes of a linear: y [out] for x [in]. */
export function adaptedLinear(
  adapter: LoadedAdapter,
  site: string,
  base: Linear,
  x: Float64Array,
): Float64Array {
  const w = replaced(adapter, site, 'weight') ?? base.w
  const bias = replaced(adapter, site, 'bias') ?? base.bias
  let input = x
  let outputFactor: ArrayLike<number> | null = null
  for (const { side, slots } of operationsAt(adapter, 'scale', site)) {
    const l = slot(adapter, slots.l)
    if (side === 'input') input = input.map((value, i) => value * l[i]!)
    else outputFactor = l
  }
  const y = product(w, input)
  // IA3 scales the bias too, DoRA does not.
  if (outputFactor)
    for (let o = 0; o < y.length; o++) y[o] = outputFactor[o]! * (y[o]! + (bias?.[o] ?? 0))
  for (const { slots, scale } of operationsAt(adapter, 'low_rank', site)) {
    const factors = slots.E ? slot(adapter, slots.E) : null
    const inner = product(slot(adapter, slots.A), x).map((v, r) => v * (factors?.[r] ?? 1))
    const delta = product(slot(adapter, slots.B), inner)
    const rows = slots.D ? slot(adapter, slots.D) : null
    const shift = slots.Bbias ? slot(adapter, slots.Bbias) : null
    for (let o = 0; o < y.length; o++)
      y[o]! += Number(scale) * ((rows?.[o] ?? 1) * delta[o]! + (shift?.[o] ?? 0))
  }
  for (const operation of operationsAt(adapter, 'dense', site)) {
    const delta = product(denseDelta(adapter, operation), x)
    for (let o = 0; o < y.length; o++) y[o]! += delta[o]!
  }
  for (const operation of operationsAt(adapter, 'magnitude', site)) {
    const { slots, scale } = operation
    const delta = product(slot(adapter, slots.B), product(slot(adapter, slots.A), x))
    const g = factors.get(operation) ?? directionFactor(adapter, operation, w)
    factors.set(operation, g)
    for (let o = 0; o < y.length; o++) y[o] = g[o]! * (y[o]! + Number(scale) * delta[o]!)
  }
  if (bias && !outputFactor) for (let o = 0; o < y.length; o++) y[o]! += bias[o]!
  return y
}

/** W x + b + sum of weight_i * (what adapter i makes of the linear - (W x + b)). */
export function summedLinear(
  terms: WeightedAdapter[],
  site: string,
  base: Linear,
  x: Float64Array,
): Float64Array {
  const plain = product(base.w, x)
  if (base.bias) for (let o = 0; o < plain.length; o++) plain[o]! += base.bias[o]!
  const y = plain.slice()
  for (const { adapter, weight } of terms) {
    const own = adaptedLinear(adapter, site, base, x)
    for (let o = 0; o < y.length; o++) y[o]! += weight * (own[o]! - plain[o]!)
  }
  return y
}

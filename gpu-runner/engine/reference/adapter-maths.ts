import { GraftError } from '@graft/sdk/format/errors.ts'
import type { Bottleneck, Magnitude, Operation } from '@graft/sdk/format/operations.ts'
import type { LoadedAdapter } from '../engine.ts'
import { activation, product } from './maths.ts'

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

/** What one adapter makes of a linear: y [out] for x [in] and W [out, in]. */
export function adaptedLinear(
  adapter: LoadedAdapter,
  site: string,
  w: Float32Array,
  x: Float64Array,
): Float64Array {
  let input = x
  let outputFactor: ArrayLike<number> | null = null
  for (const { side, slots } of operationsAt(adapter, 'scale', site)) {
    const l = slot(adapter, slots.l)
    if (side === 'input') input = input.map((value, i) => value * l[i]!)
    else outputFactor = l
  }
  const y = product(w, input)
  if (outputFactor) for (let o = 0; o < y.length; o++) y[o]! *= outputFactor[o]!
  for (const { slots, scale } of operationsAt(adapter, 'low_rank', site)) {
    const delta = product(slot(adapter, slots.B), product(slot(adapter, slots.A), x))
    for (let o = 0; o < y.length; o++) y[o]! += Number(scale) * delta[o]!
  }
  for (const operation of operationsAt(adapter, 'magnitude', site)) {
    const { slots, scale } = operation
    const delta = product(slot(adapter, slots.B), product(slot(adapter, slots.A), x))
    const g = factors.get(operation) ?? directionFactor(adapter, operation, w)
    factors.set(operation, g)
    for (let o = 0; o < y.length; o++) y[o] = g[o]! * (y[o]! + Number(scale) * delta[o]!)
  }
  return y
}

/** W x + sum of weight_i * (what adapter i makes of the linear - W x). */
export function summedLinear(
  terms: WeightedAdapter[],
  site: string,
  w: Float32Array,
  x: Float64Array,
): Float64Array {
  const plain = product(w, x)
  const y = plain.slice()
  for (const { adapter, weight } of terms) {
    const own = adaptedLinear(adapter, site, w, x)
    for (let o = 0; o < y.length; o++) y[o]! += weight * (own[o]! - plain[o]!)
  }
  return y
}

/** (U act(D h + d) + u) * scaling, [hidden], for the sub-layer's input h [hidden]. */
export function bottleneck(
  adapter: LoadedAdapter,
  operation: Bottleneck,
  h: Float64Array,
): Float64Array {
  const { slots, scaling } = operation
  const act = activation(operation.activation)
  const downBias = slots.downB ? slot(adapter, slots.downB) : null
  const upBias = slots.upB ? slot(adapter, slots.upB) : null
  const z = product(slot(adapter, slots.downW), h).map((value, r) =>
    act(value + (downBias?.[r] ?? 0)),
  )
  const factor = slots.scaling ? slot(adapter, slots.scaling) : [Number(scaling)]
  return product(slot(adapter, slots.upW), z).map(
    (value, i) => (value + (upBias?.[i] ?? 0)) * factor[factor.length === 1 ? 0 : i]!,
  )
}

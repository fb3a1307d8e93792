import { GraftError } from '@graft/sdk/format/errors.ts'
import type { Bottleneck } from '@graft/sdk/format/operations.ts'
import type { LoadedAdapter } from '../engine.ts'
import { operationsAt, slot, type WeightedAdapter } from './adapter-maths.ts'
import { activation, layerNorm, product, sigmoid } from './maths.ts'

type Rows = Float64Array[]

const add = (a: Float64Array, b: Float64Array): Float64Array => a.map((value, i) => value + b[i]!)

/**
 * What a block goes on with after a sub-layer: stream + output, or what the row's bottleneck makes of the two.
 * @param stream residual stream, one row [hidden] for each token of the call
 * @param output the sub-layer's output, the same
 */
export function afterSubLayer(
  terms: WeightedAdapter[],
  block: string,
  place: 'attention' | 'ffn',
  stream: Rows,
  output: Rows,
): Rows {
  for (const { adapter } of terms)
    for (const operation of operationsAt(adapter, 'bottleneck', block))
      if (operation.placement === place || operation.placement === `parallel_${place}`)
        return bottleneck(adapter, operation, stream, output)
  return stream.map((x, t) => add(x, output[t]!))
}

/**
 * AdapterHub 1.3.0 (adapters/methods/modeling.py, Adapter and ParallelAdapter) as its Llama block calls it, without a
 * LayerNorm of the block's own: pre_forward, forward and post_forward in the order they run.
 */
export function bottleneck(
  adapter: LoadedAdapter,
  operation: Bottleneck,
  stream: Rows,
  output: Rows,
): Rows {
  const { slots } = operation
  if (operation.residual === 'post_add')
    throw new GraftError(
      'ERR_OPERATION_UNSUPPORTED',
      `bottleneck at ${operation.site}: residual post_add needs a LayerNorm that this block has not`,
    )
  const parallel = operation.placement.startsWith('parallel_')
  const input = stream.map((x, t) =>
    parallel ? x : operation.originalLnBefore ? add(output[t]!, x) : output[t]!,
  )
  const gate = gateOf(adapter, operation, input)
  return stream.map((x, t) => {
    const h = output[t]!
    const z = input[t]!
    const u = inner(adapter, operation, z).map((value) => value * gate)
    const norm = (value: Float64Array) => normed(adapter, slots.lnAfterW, slots.lnAfterB, value)
    const residual = parallel || operation.residual === 'before_ln' ? h : z
    const inside = !parallel && operation.adapterResidualBeforeLn
    const t_ = inside ? norm(add(u, residual)) : add(norm(u), residual)
    return operation.originalLnAfter ? add(t_, x) : t_
  })
}

/** The mean over the call's tokens of sigmoid(gateW z + gateB); 1 without a gate. */
function gateOf(adapter: LoadedAdapter, { slots }: Bottleneck, input: Rows): number {
  if (!slots.gateW) return 1
  const w = slot(adapter, slots.gateW)
  const b = slots.gateB ? slot(adapter, slots.gateB)[0]! : 0
  const sum = input.reduce((total, z) => total + sigmoid(product(w, z)[0]! + b), 0)
  return sum / input.length
}

/** (U act(D n(z) + d) + u) * scaling, [hidden]. */
function inner(adapter: LoadedAdapter, operation: Bottleneck, z: Float64Array): Float64Array {
  const { slots, scaling } = operation
  const act = activation(operation.activation)
  const downBias = slots.downB ? slot(adapter, slots.downB) : null
  const upBias = slots.upB ? slot(adapter, slots.upB) : null
  const read = normed(adapter, slots.lnBeforeW, slots.lnBeforeB, z)
  const reduced = product(slot(adapter, slots.downW), read).map((value, r) =>
    act(value + (downBias?.[r] ?? 0)),
  )
  const factor = slots.scaling ? slot(adapter, slots.scaling) : [Number(scaling)]
  return product(slot(adapter, slots.upW), reduced).map(
    (value, i) => (value + (upBias?.[i] ?? 0)) * factor[factor.length === 1 ? 0 : i]!,
  )
}

/** A LayerNorm of the adapter's own; identity where its weight is absent. */
function normed(
  adapter: LoadedAdapter,
  weight: string | undefined,
  bias: string | undefined,
  value: Float64Array,
): Float64Array {
  if (!weight) return value
  return layerNorm(value, slot(adapter, weight), bias ? slot(adapter, bias) : null)
}

import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import { slotsOf as operationSlots } from '@graft/sdk/format/slots.ts'
import { bandsOf, type Checkpoint, withF32 } from '../../checkpoint/read-checkpoint.ts'
import type { LoadedAdapter } from '../engine.ts'
import { linearSites } from '../graph/sites.ts'
import { mergeLinear, type Take } from './merge-linear.ts'
import { type Change, planMerge } from './merge-plan.ts'

/**
 * The base with an adapter folded into its weights: W' = f32(W) + delta at every adapted site, one tensor at a time when
 * it is asked for, so that no second copy of the model is held.
 * @throws ERR_OPERATION_UNSUPPORTED for what is no change of weights, ERR_TENSOR_SHAPE, ERR_TENSOR_MISSING
 */
export function mergedCheckpoint(base: Checkpoint, adapter: LoadedAdapter): Checkpoint {
  const { config, changes } = planMerge(adapter, base.config)
  const take = taker(adapter)
  // Every tensor is looked at before any is merged: what is wrong shows at once, not after minutes of work.
  for (const change of changes.values()) for (const check of slotsOf(change)) take(...check)
  const biased = new Set(
    linearSites(base.config).flatMap(({ path, bias }) => (bias ? [`${path}.bias`] : [])),
  )
  const own = (name: string, shape: number[]): Float32Array =>
    name.endsWith('.bias') && !biased.has(name)
      ? new Float32Array(shape[0]!)
      : base.f32(name, shape)
  const f32 = (name: string, shape: number[]): Float32Array => {
    const change = changes.get(name)
    if (!change) return own(name, shape)
    if (change.shape.join() !== shape.join())
      throw new GraftError(
        'ERR_TENSOR_SHAPE',
        expected(`shape of ${name}`, `[${shape}]`, change.shape),
      )
    return finite(
      name,
      mergeTensor(change, () => own(name, shape), take),
    )
  }
  return {
    ...withF32({ ...base, config }, f32),
    bands: (name, shape) => (changes.has(name) ? [f32(name, shape)] : bandsOf(base, name, shape)),
  }
}

function mergeTensor(change: Change, own: () => Float32Array, take: Take): Float32Array {
  const { replace, shape, linear } = change
  let weight = replace && !replace.rows ? take(replace.slots.value, shape) : own()
  if (replace?.rows) {
    const width = shape[1]!
    const rows = take(replace.slots.value, [replace.rows.length, width])
    weight = weight.slice()
    for (const [i, row] of replace.rows.entries())
      weight.set(rows.subarray(i * width, (i + 1) * width), row * width)
  }
  if (linear.length > 0) return mergeLinear(weight, [shape[0]!, shape[1]!], linear, take)
  return change.factor || change.added ? mergeBias(weight, change, take) : weight
}

/** l * b + s * b_B, [out]. */
function mergeBias(b: Float32Array, { factor, added }: Change, take: Take): Float32Array {
  const l = factor === null ? null : take(factor, [b.length])
  const own = added === null ? null : take(added.slot, [b.length])
  return b.map((value, o) => value * (l?.[o] ?? 1) + (added?.scale ?? 0) * (own?.[o] ?? 0))
}

/** Sums may overflow although every term is finite. */
function finite(name: string, values: Float32Array): Float32Array {
  for (const value of values)
    if (!Number.isFinite(value))
      throw new GraftError('ERR_WEIGHTS_NON_FINITE', `${name}: the merged weights overflow f32`)
  return values
}

/** Every tensor that a change reads, with the shape it must have. */
function* slotsOf(change: Change): Generator<[string, number[]]> {
  const { replace, linear, shape, factor, added } = change
  const [out, inner] = shape as [number, number]
  if (replace)
    yield [replace.slots.value, replace.rows ? [replace.rows.length, ...shape.slice(1)] : shape]
  if (factor !== null) yield [factor, shape]
  if (added !== null) yield [added.slot, shape]
  for (const operation of linear) {
    if (operation.op === 'scale') yield [operation.slots.l, [operation.size]]
    else if (operation.op === 'dense')
      for (const { tensor, shape } of operationSlots(operation)) yield [tensor, shape]
    else {
      yield [operation.slots.A, [operation.rank, inner]]
      yield [operation.slots.B, [out, operation.rank]]
      if (operation.op === 'magnitude') yield [operation.slots.m, [out]]
    }
  }
}

function taker({ digest, tensors }: LoadedAdapter): Take {
  return (name, shape) => {
    const tensor = tensors.get(name)
    if (!tensor)
      throw new GraftError('ERR_TENSOR_MISSING', `the tensor ${name} of ${digest} is missing`)
    if (tensor.shape.join() !== shape.join())
      throw new GraftError(
        'ERR_TENSOR_SHAPE',
        expected(`shape of ${name}`, `[${shape}]`, tensor.shape),
      )
    return tensor.data
  }
}

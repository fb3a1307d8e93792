import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import type { Operation, Replace } from '@graft/sdk/format/operations.ts'
import type { ModelConfig } from '../../checkpoint/model-config.ts'
import type { Checkpoint } from '../../checkpoint/read-checkpoint.ts'
import type { LoadedAdapter } from '../engine.ts'
import { linearSites } from '../graph/sites.ts'
import { type LinearOperation, mergeLinear, type Take } from './merge-linear.ts'

/** What changes one tensor of the base: it is replaced, some of its rows are, or its matrix is added to. */
interface Change {
  shape: number[]
  replace: Replace | null
  linear: LinearOperation[]
}

/**
 * The base with an adapter folded into its weights: W' = f32(W) + delta at every adapted site, one tensor at a time when
 * it is asked for, so that no second copy of the model is held.
 * @throws ERR_OPERATION_UNSUPPORTED for what is no change of weights, ERR_TENSOR_SHAPE, ERR_TENSOR_MISSING
 */
export function mergedCheckpoint(base: Checkpoint, adapter: LoadedAdapter): Checkpoint {
  const changes = planChanges(adapter, base.config)
  const take = taker(adapter)
  // Every tensor is looked at before any is merged: what is wrong shows at once, not after minutes of work.
  for (const change of changes.values()) for (const check of slotsOf(change)) take(...check)
  return {
    ...base,
    f32(name, shape) {
      const change = changes.get(name)
      if (!change) return base.f32(name, shape)
      if (change.shape.join() !== shape.join())
        throw new GraftError(
          'ERR_TENSOR_SHAPE',
          expected(`shape of ${name}`, `[${shape}]`, change.shape),
        )
      return mergeTensor(base, name, change, take)
    },
  }
}

function mergeTensor(base: Checkpoint, name: string, change: Change, take: Take): Float32Array {
  const { replace, shape, linear } = change
  let weight = replace && !replace.rows ? take(replace.slots.value, shape) : base.f32(name, shape)
  if (replace?.rows) {
    const width = shape[1]!
    const rows = take(replace.slots.value, [replace.rows.length, width])
    weight = weight.slice()
    for (const [i, row] of replace.rows.entries())
      weight.set(rows.subarray(i * width, (i + 1) * width), row * width)
  }
  if (linear.length === 0) return weight
  return mergeLinear(weight, [shape[0]!, shape[1]!], linear, take)
}

/** Changes by tensor name. @throws ERR_OPERATION_UNSUPPORTED, ERR_TENSOR_SHAPE */
function planChanges(adapter: LoadedAdapter, config: ModelConfig): Map<string, Change> {
  const shapes = weightShapes(config)
  const changes = new Map<string, Change>()
  for (const operation of adapter.operations) {
    assertMergeable(operation, adapter)
    const param = operation.op === 'replace' ? operation.param : 'weight'
    const name = `${operation.site}.${param}`
    const shape = shapes.get(name)
    if (!shape)
      throw refusal(operation, adapter, `this base has no tensor ${name} that could take it`)
    const change = changes.get(name) ?? { shape, replace: null, linear: [] }
    changes.set(name, change)
    if (operation.op === 'replace') {
      if (change.replace) throw refusal(operation, adapter, 'the tensor is replaced twice')
      assertReplace(operation, shape)
      change.replace = operation
    } else {
      if (shape.length !== 2) throw refusal(operation, adapter, `${name} is no matrix`)
      assertSizes(operation, shape)
      change.linear.push(operation)
    }
  }
  for (const { linear } of changes.values()) linear.sort((a, b) => ORDER[a.op] - ORDER[b.op])
  return changes
}

/** IA3 acts on Wx, deltas add to that, DoRA's g is on all of it. */
const ORDER: Record<LinearOperation['op'], number> = {
  scale: 0,
  low_rank: 1,
  dense: 1,
  magnitude: 2,
}

const refusal = (operation: Operation, { digest }: LoadedAdapter, why: string): GraftError =>
  new GraftError(
    'ERR_OPERATION_UNSUPPORTED',
    `${operation.op} at ${operation.site} of ${digest} cannot be merged: ${why}; call it unmerged`,
  )

/** @throws ERR_OPERATION_UNSUPPORTED for an operation that no change of the base's weights can express */
function assertMergeable(
  operation: Operation,
  adapter: LoadedAdapter,
): asserts operation is LinearOperation | Replace {
  if (operation.op === 'bottleneck')
    throw refusal(operation, adapter, 'it has an activation between its two matrices')
  if (operation.op === 'prefix' || operation.op === 'prompt')
    throw refusal(operation, adapter, 'it adds virtual tokens and changes no weight')
  if (operation.op === 'low_rank' && operation.slots.Bbias !== undefined)
    throw refusal(operation, adapter, 'its B has a bias and the linear has none')
}

function assertReplace({ site, param, shape: given, rows }: Replace, shape: number[]): void {
  const want = rows ? [rows.length, ...shape.slice(1)] : shape
  const inside = rows?.every((row) => row < shape[0]!) ?? true
  if (given.join() !== want.join() || !inside)
    throw new GraftError(
      'ERR_TENSOR_SHAPE',
      expected(`replace at ${site}.${param}`, `[${want}], rows below ${shape[0]}`, given),
    )
}

function assertSizes(operation: LinearOperation, [out, inner]: number[]): void {
  const given =
    operation.op === 'scale'
      ? operation.side === 'input'
        ? [out, operation.size]
        : [operation.size, inner]
      : [operation.out, operation.in]
  if (given[0] !== out || given[1] !== inner)
    throw new GraftError(
      'ERR_TENSOR_SHAPE',
      expected(`${operation.site}: [out, in]`, `[${out},${inner}]`, given),
    )
}

/** Names and shapes of all weights that a Llama decoder reads. */
function weightShapes(config: ModelConfig): Map<string, number[]> {
  const { vocab, hidden, layers } = config
  const shapes = new Map<string, number[]>([
    ['model.embed_tokens.weight', [vocab, hidden]],
    ['lm_head.weight', [vocab, hidden]],
    ['model.norm.weight', [hidden]],
  ])
  for (let layer = 0; layer < layers; layer++)
    for (const norm of ['input_layernorm', 'post_attention_layernorm'])
      shapes.set(`model.layers.${layer}.${norm}.weight`, [hidden])
  for (const { path, in: inner, out } of linearSites(config))
    shapes.set(`${path}.weight`, [out, inner])
  return shapes
}

/** Every tensor that a change reads, with the shape it must have. */
function* slotsOf({ replace, linear, shape }: Change): Generator<[string, number[]]> {
  const [out, inner] = shape as [number, number]
  if (replace)
    yield [replace.slots.value, replace.rows ? [replace.rows.length, ...shape.slice(1)] : shape]
  for (const operation of linear) {
    if (operation.op === 'scale') yield [operation.slots.l, [operation.size]]
    else if (operation.op === 'dense') yield [operation.slots.dW, shape]
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

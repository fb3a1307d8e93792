import { kindToRun } from '@graft/sdk/format/dense/as-low-rank.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import type { LowRank, Operation, Replace } from '@graft/sdk/format/operations.ts'
import type { ModelConfig } from '../../checkpoint/model-config.ts'
import type { LoadedAdapter } from '../engine.ts'
import { normSites } from '../graph/norm-sites.ts'
import { linearSites } from '../graph/sites.ts'
import type { LinearOperation } from './merge-linear.ts'

/** What changes one tensor of the base: it is replaced, some of its rows are, its matrix or its bias is added to. */
export interface Change {
  shape: number[]
  replace: Replace | null
  /** Of a matrix, in the order in which they apply. */
  linear: LinearOperation[]
  /** Of a bias: l of IA3 on the output, which multiplies it too, then s and b_B of LoRA, which add to it. */
  factor: string | null
  added: { scale: number; slot: string } | null
}

export interface MergePlan {
  /** The base's, with biases where only the adapter has some. */
  config: ModelConfig
  /** By tensor name. */
  changes: Map<string, Change>
}

type Mergeable = LinearOperation | Replace

/** @throws ERR_OPERATION_UNSUPPORTED for what is no change of weights, ERR_TENSOR_SHAPE for sizes that are not the base's */
export function planMerge(adapter: LoadedAdapter, base: ModelConfig): MergePlan {
  const operations = adapter.operations.map((operation) => assertMergeable(operation, adapter))
  const config = withBiases(base, operations)
  const shapes = weightShapes(config)
  const changes = new Map<string, Change>()
  const changeOf = (name: string): Change | null => {
    const shape = shapes.get(name)
    if (!shape) return null
    const change = changes.get(name) ?? {
      shape,
      replace: null,
      linear: [],
      factor: null,
      added: null,
    }
    changes.set(name, change)
    return change
  }
  for (const operation of operations) {
    const param = operation.op === 'replace' ? operation.param : 'weight'
    const name = `${operation.site}.${param}`
    const change = changeOf(name)
    if (!change)
      throw refusal(operation, adapter, `this base has no tensor ${name} that could take it`)
    if (operation.op === 'replace') {
      if (change.replace) throw refusal(operation, adapter, 'the tensor is replaced twice')
      assertReplace(operation, change.shape)
      change.replace = operation
      continue
    }
    if (operation.op === 'low_rank') assertLinear(operation, adapter)
    if (change.shape.length !== 2) throw refusal(operation, adapter, `${name} is no matrix`)
    assertSizes(operation, change.shape)
    change.linear.push(operation)
    if (operation.op === 'scale' && operation.side === 'output') {
      const bias = changeOf(`${operation.site}.bias`)
      if (bias) bias.factor = operation.slots.l
    }
    if (operation.op === 'low_rank' && operation.slots.Bbias !== undefined)
      changeOf(`${operation.site}.bias`)!.added = {
        scale: Number(operation.scale),
        slot: operation.slots.Bbias,
      }
  }
  for (const { linear } of changes.values()) linear.sort((a, b) => ORDER[a.op] - ORDER[b.op])
  return { config, changes }
}

/** IA3 acts on Wx, deltas add to that, DoRA's g is on all of it. */
const ORDER: Record<LinearOperation['op'], number> = {
  scale: 0,
  low_rank: 1,
  dense: 1,
  magnitude: 2,
}

function refusal(operation: Operation, { digest, operations }: LoadedAdapter, why: string) {
  const wayOut = operations.some((op) => kindToRun(op) === 'dense')
    ? 'beside it are dense operations, which only run merged: publish the two as one change of weights, or each by itself'
    : 'call it unmerged'
  return new GraftError(
    'ERR_OPERATION_UNSUPPORTED',
    `${operation.op} at ${operation.site} of ${digest} cannot be merged: ${why}; ${wayOut}`,
  )
}

function assertMergeable(operation: Operation, adapter: LoadedAdapter): Mergeable {
  if (operation.op === 'bottleneck')
    throw refusal(operation, adapter, 'it has an activation between its two matrices')
  if (operation.op === 'prefix' || operation.op === 'prompt')
    throw refusal(operation, adapter, 'it adds virtual tokens and changes no weight')
  return operation
}

/** A bias that LoRA brings along needs an addition where the base has none; zeros elsewhere change nothing. */
function withBiases(base: ModelConfig, operations: readonly Mergeable[]): ModelConfig {
  const brings = (part: string): boolean =>
    operations.some(
      (operation) =>
        operation.op === 'low_rank' &&
        operation.slots.Bbias !== undefined &&
        operation.site.includes(part),
    )
  return {
    ...base,
    attentionBias: base.attentionBias || brings('.self_attn.'),
    mlpBias: base.mlpBias || brings('.mlp.'),
  }
}

/** Stacks, convolutions and embeddings are matrices of another orientation or none. */
function assertLinear(operation: LowRank, adapter: LoadedAdapter): void {
  if (operation.experts !== undefined || operation.kernel !== undefined)
    throw refusal(operation, adapter, 'it is no single matrix')
  if (operation.site === 'model.embed_tokens')
    throw refusal(operation, adapter, 'it adapts the embedding')
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

/** Names and shapes of all weights that a decoder of this config reads. */
function weightShapes(config: ModelConfig): Map<string, number[]> {
  const { vocab, hidden } = config
  const shapes = new Map<string, number[]>([
    ['model.embed_tokens.weight', [vocab, hidden]],
    ['lm_head.weight', [vocab, hidden]],
  ])
  for (const norm of normSites(config)) shapes.set(`${norm}.weight`, [hidden])
  for (const { path, in: inner, out, bias } of linearSites(config)) {
    shapes.set(`${path}.weight`, [out, inner])
    if (bias) shapes.set(`${path}.bias`, [out])
  }
  return shapes
}

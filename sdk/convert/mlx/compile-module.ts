import type { BaseSites, LinearSite } from '@graft/sdk/format/base-sites.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import type { LowRank, Magnitude } from '@graft/sdk/format/operations.ts'
import type { TensorSource } from '@graft/sdk/format/tensor-source.ts'
import { type Block, blockTransform, cutBlock } from '../blocks.ts'
import type { Collector } from '../compiled.ts'
import { transposed } from '../transpose.ts'
import { expertPaths } from './experts.ts'
import { type MlxModule, siteOf } from './modules.ts'

export interface MlxSettings {
  rank: number
  /** Absolute, as a decimal. */
  scale: string
  dora: boolean
}

interface Pair {
  keys: { a: string; b: string }
  a: TensorSource
  b: TensorSource
}

type Update = LowRank | Magnitude

function pairOf(collector: Collector, { path, keys }: MlxModule): Pair {
  const [a, b] = [collector.peek(keys.a ?? ''), collector.peek(keys.b ?? '')]
  if (a !== null && b !== null) return { keys: { a: keys.a!, b: keys.b! }, a, b }
  throw new GraftError(
    'ERR_TENSOR_MISSING',
    `module ${path} has ${Object.values(keys).join(', ')} and needs lora_a and lora_b`,
  )
}

const refuseShape = (path: string, want: string, { a, b }: Pair): never => {
  throw new GraftError(
    'ERR_TENSOR_SHAPE',
    expected(`${path}: lora_a and lora_b`, want, `[${a.shape}] and [${b.shape}]`),
  )
}

/** lora_a [in, rank] and lora_b [rank, out]: the transposes of what torch has, square or not. */
function compileMatrix(
  collector: Collector,
  linear: LinearSite,
  pair: Pair,
  { rank, scale }: MlxSettings,
): LowRank {
  const { path: site, in: inside, out } = linear
  if (pair.a.shape.join() !== `${inside},${rank}` || pair.b.shape.join() !== `${rank},${out}`)
    refuseShape(site, `[${inside},${rank}] and [${rank},${out}], as base and config say`, pair)
  const A = collector.add(pair.keys.a, site, 'lora.A', transposed(pair.a), 'transpose')
  const B = collector.add(pair.keys.b, site, 'lora.B', transposed(pair.b), 'transpose')
  return { op: 'low_rank', site, in: inside, out, rank, scale, slots: { A, B } }
}

/** A head that shares the embedding's weight is adapted with it: y += scale * lora_a (lora_b x). */
function tiedHead(collector: Collector, site: string, pair: Pair, op: LowRank): LowRank {
  const A = collector.derive(site, 'lora.A', pair.b)
  const B = collector.derive(site, 'lora.B', pair.a)
  return { ...op, site, in: op.out, out: op.in, slots: { A, B } }
}

/** Experts: lora_a [experts, rank, in] and lora_b [experts, out, rank], which are not transposed. */
function compileExperts(
  collector: Collector,
  sites: BaseSites,
  path: string,
  pair: Pair,
  { rank, scale }: MlxSettings,
): LowRank[] {
  const [experts = 0, r, inside = 0] = pair.a.shape
  const [same, out = 0, columns] = pair.b.shape
  if (same !== experts || r !== rank || columns !== rank)
    refuseShape(path, `[experts,${rank},in] and [experts,out,${rank}], as the config says`, pair)
  const shared = { op: 'low_rank', in: inside, out, rank, scale } as const
  const each = expertPaths(sites, path)
  if (each === null) {
    const site = siteOf(sites, path, pair.keys.a)
    const A = collector.take(pair.keys.a, site, 'lora.A')
    const B = collector.take(pair.keys.b, site, 'lora.B')
    return [{ ...shared, site, experts, slots: { A, B } }]
  }
  const one = (key: string, tensor: TensorSource, expert: number, slot: string): string => {
    const view = tensor.shape
    const [, rows = 0, width = 0] = view
    const block: Block = {
      view,
      begin: [expert, 0, 0],
      end: [expert + 1, rows, width],
      axes: [0, 1, 2],
    }
    const cut = cutBlock(tensor, block, [rows, width])
    return collector.add(key, each(expert), slot, cut, blockTransform(block, view))
  }
  return Array.from({ length: experts }, (_, expert) => {
    const A = one(pair.keys.a, pair.a, expert, 'lora.A')
    const B = one(pair.keys.b, pair.b, expert, 'lora.B')
    return { ...shared, site: each(expert), slots: { A, B } }
  })
}

/** @throws ERR_TENSOR_*, ERR_METHOD_UNSUPPORTED for DoRA on an embedding */
export function compileModule(
  collector: Collector,
  sites: BaseSites,
  module: MlxModule,
  settings: MlxSettings,
): Update[] {
  const pair = pairOf(collector, module)
  if (pair.a.shape.length === 3 && pair.b.shape.length === 3)
    return compileExperts(collector, sites, module.path, pair, settings)
  const site = siteOf(sites, module.path, pair.keys.a)
  const embedding = sites.embedding(site)
  const linear = embedding ?? sites.linear(site)
  if (linear === null)
    throw new GraftError(
      'ERR_TENSOR_UNMATCHED',
      `tensor ${pair.keys.a} adapts ${site}, which is neither a linear layer nor an embedding`,
    )
  if (settings.dora && embedding !== null)
    throw new GraftError(
      'ERR_METHOD_UNSUPPORTED',
      `${site}: DoRA on an embedding is not supported; leave "${module.path}" out of lora_parameters.keys, or train it as LoRA`,
    )
  const op = compileMatrix(collector, linear, pair, settings)
  if (settings.dora) {
    const m = collector.take(module.keys.m ?? `${module.path}.m`, site, 'lora.mag')
    const { A, B } = op.slots
    return [{ ...op, op: 'magnitude', slots: { A, B, m } }]
  }
  const head = embedding === null ? null : sites.tiedHead
  return head === null ? [op] : [op, tiedHead(collector, head, pair, op)]
}

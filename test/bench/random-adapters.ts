import type { ModelConfig } from '@graft/runner/checkpoint/model-config.ts'
import type { LoadedAdapter } from '@graft/runner/engine/engine.ts'
import { linearSites } from '@graft/runner/engine/graph/sites.ts'
import { fromHex } from '@graft/sdk/format/digest.ts'
import type { Operation } from '@graft/sdk/format/operations.ts'
import { seededUniform } from './random-base.ts'

/** Seeds of one adapter; far more than it has tensors. */
const SEEDS = 10_000

/** Collects operations and seeded tensors of adapter `number`; the number is its digest. */
function builder(number: number) {
  const adapter: LoadedAdapter = {
    digest: fromHex(number.toString(16).padStart(64, '0')),
    operations: [],
    tensors: new Map(),
  }
  let seed = number * SEEDS
  /** Values around `mean`. @returns the name */
  const tensor = (name: string, shape: number[], spread: number, mean = 0): string => {
    const data = seededUniform(
      ++seed,
      shape.reduce((a, b) => a * b, 1),
      spread,
    )
    if (mean !== 0) for (let i = 0; i < data.length; i++) data[i]! += mean
    adapter.tensors.set(name, { shape, data })
    return name
  }
  /** B A of one linear. */
  const update = (site: string, inner: number, out: number, rank: number) => ({
    site,
    in: inner,
    out,
    rank,
    scale: '1',
    slots: {
      A: tensor(`${site}.A`, [rank, inner], 1 / Math.sqrt(inner)),
      B: tensor(`${site}.B`, [out, rank], 0.2),
    },
  })
  return {
    adapter,
    add: (operation: Operation) => adapter.operations.push(operation),
    tensor,
    update,
  }
}

/** LoRA of the same rank on all seven linears of every layer. */
export function randomLora(number: number, config: ModelConfig, rank = 16): LoadedAdapter {
  const { adapter, update, add } = builder(number)
  for (const { path, in: inner, out } of linearSites(config))
    add({ op: 'low_rank', ...update(path, inner, out, rank) })
  return adapter
}

/** DoRA on all seven linears of every layer. */
export function randomDora(number: number, config: ModelConfig, rank = 16): LoadedAdapter {
  const { adapter, tensor, update, add } = builder(number)
  for (const { path, in: inner, out } of linearSites(config)) {
    const factors = update(path, inner, out, rank)
    const m = tensor(`${path}.m`, [out], 0.1, 1)
    add({ op: 'magnitude', ...factors, slots: { ...factors.slots, m } })
  }
  return adapter
}

/** IA3 on keys, values and the MLP's output, as its paper has it. */
export function randomIa3(number: number, config: ModelConfig): LoadedAdapter {
  const { adapter, tensor, add } = builder(number)
  for (const { path, in: inner, out } of linearSites(config)) {
    if (!/(k_proj|v_proj|down_proj)$/.test(path)) continue
    const side = path.endsWith('down_proj') ? 'input' : 'output'
    const size = side === 'input' ? inner : out
    add({ op: 'scale', site: path, side, size, slots: { l: tensor(`${path}.l`, [size], 0.4, 1) } })
  }
  return adapter
}

/** AdapterHub's `seq_bn` (Pfeiffer): one bottleneck after every MLP, hidden / reduction wide. */
export function randomBottleneck(
  number: number,
  config: ModelConfig,
  reduction = 16,
): LoadedAdapter {
  const { adapter, tensor, add } = builder(number)
  const { hidden } = config
  const reduced = hidden / reduction
  for (let layer = 0; layer < config.layers; layer++) {
    const site = `model.layers.${layer}`
    add({
      op: 'bottleneck',
      site,
      placement: 'ffn',
      hidden,
      reduced,
      activation: 'relu',
      originalLnBefore: true,
      originalLnAfter: true,
      residual: 'before_ln',
      adapterResidualBeforeLn: false,
      scaling: '1',
      slots: {
        downW: tensor(`${site}.down`, [reduced, hidden], 1 / Math.sqrt(hidden)),
        downB: tensor(`${site}.down_bias`, [reduced], 0.1),
        upW: tensor(`${site}.up`, [hidden, reduced], 0.2),
        upB: tensor(`${site}.up_bias`, [hidden], 0.1),
      },
    })
  }
  return adapter
}

/**
 * Keys and values of `past` positions and nothing else: a row of the base with a past, without reading a prompt.
 * Layers share one tensor: speed does not depend on values.
 */
export function randomPast(number: number, config: ModelConfig, past: number): LoadedAdapter {
  const { adapter, tensor, add } = builder(number)
  const { kvHeads, headDim, layers } = config
  const values = tensor('past', [kvHeads, past, headDim], 1)
  for (let layer = 0; layer < layers; layer++)
    add({
      op: 'prefix',
      site: `model.layers.${layer}.self_attn`,
      kvHeads,
      headDim,
      virtualTokens: past,
      slots: { k: values, v: values },
    })
  return adapter
}

import type { Checkpoint } from '../../checkpoint/read-checkpoint.ts'
import { attention, attentionInputs } from './attention.ts'
import { bottleneckSite, GRAPH_ACTIVATIONS } from './bottleneck-site.ts'
import { type GraphContext, graphContext } from './context.ts'
import type { Execution } from './execution.ts'
import { linearSite } from './linear-site.ts'
import type { Precision } from './linear-weights.ts'
import { lmHead } from './lm-head.ts'
import { ONNX_TYPE, OnnxModel } from './onnx-model.ts'
import { PLACEMENTS, type Placement } from './sites.ts'
import type { Variant } from './variants.ts'

const { FLOAT, INT64, BOOL } = ONNX_TYPE

export const EXTERNAL_NAME = 'weights.bin'

/**
 * Writes a Llama decoder as an ONNX graph. B rows, T tokens each, S past capacity, R low-rank rows of the bank,
 * M bottleneck rows, N adapters with vectors, P positions whose logits are asked for.
 *
 *   ids [B,T], pos [B,T], visible [B,1,G*T,S+T] (bool), split [2] = (S, T), take [P] (indices into B*T)
 *   past.<l>.k / .v [B,kvHeads,S,headDim] -> new.<l>.k / .v [B,kvHeads,T,headDim], logits [P,vocab]
 *
 * The KV cache stays outside: past rows come in as views and only the step's own rows go out.
 * Adapter inputs are described in bank/; masks select with Where and never multiply, since Inf * 0 is NaN.
 */
export function buildDecoder(
  checkpoint: Checkpoint,
  precision: Precision,
  variant: Variant,
  execution: Execution = 'cpu',
): { model: Uint8Array; external: Uint8Array } {
  const m = new OnnxModel(EXTERNAL_NAME)
  const context = graphContext(m, checkpoint, precision, variant, execution)
  const { hidden, layers, vocab } = checkpoint.config
  m.input('ids', INT64, ['B', 'T'])
  m.input('pos', INT64, ['B', 'T'])
  if (execution === 'webgpu' && context.carries.lowRank) m.input('grid', INT64, [3])
  attentionInputs(context)
  adapterInputs(context)

  const embedName = 'model.embed_tokens.weight'
  const embedding = checkpoint.f32(embedName, [vocab, hidden])
  m.weight(embedName, FLOAT, [vocab, hidden], embedding)
  let embedded = m.node('Gather', [embedName, 'ids'], { axis: 0 })
  if (context.carries.rich)
    embedded = m.node('Where', ['virtual.mask', 'virtual.embeddings', embedded])
  let stream: Stream = { h: embedded, skip: null }
  for (let layer = 0; layer < layers; layer++) {
    const block = `model.layers.${layer}`
    const beforeAttention = normalise(context, stream, `${block}.input_layernorm.weight`)
    const attended = attention(context, layer, beforeAttention.normal)
    stream = afterSubLayer(context, beforeAttention.h, block, 'attention', attended)
    const beforeFfn = normalise(context, stream, `${block}.post_attention_layernorm.weight`)
    const fed = mlp(context, block, beforeFfn.normal)
    stream = afterSubLayer(context, beforeFfn.h, block, 'ffn', fed)
  }
  lmHead(context, normalise(context, stream, 'model.norm.weight').normal)
  return m.finish()
}

/** The residual stream h, and what is still to be added to it. */
interface Stream {
  h: string
  skip: string | null
}

/** Inputs that say which rows use which adapter machinery. */
function adapterInputs({ m, checkpoint, carries }: GraphContext): void {
  if (carries.lowRank) {
    m.input('low_rank.mask', BOOL, ['B', 1, 'R'])
    m.input('low_rank.scale', FLOAT, ['B', 1, 'R'])
  }
  if (carries.rich) {
    m.input('vector.row', INT64, ['B', 1])
    m.input('bottleneck.mask', BOOL, ['B', 1, 'M'])
    for (const name of GRAPH_ACTIVATIONS) m.input(`bottleneck.is_${name}`, BOOL, [1, 1, 'M'])
    for (const place of PLACEMENTS) m.input(`bottleneck.${place}.after_add`, BOOL, ['B', 1, 1])
    m.input('virtual.mask', BOOL, ['B', 'T', 1])
    m.input('virtual.embeddings', FLOAT, ['B', 'T', checkpoint.config.hidden])
  }
}

/** Adds what the last sub-layer gave and normalises. @returns the normalised value, and the sum as the new h */
function normalise(
  { m, checkpoint }: GraphContext,
  { h, skip }: Stream,
  weight: string,
): { normal: string; h: string } {
  const { hidden, normEpsilon } = checkpoint.config
  const w = m.constant(weight, FLOAT, [hidden], checkpoint.f32(weight, [hidden]))
  const epsilon = { epsilon: { float: normEpsilon } }
  if (skip === null)
    return { normal: m.node('SimplifiedLayerNormalization', [h, w], { axis: -1, ...epsilon }), h }
  const [normal, sum] = [`${weight}.out`, `${weight}.sum`]
  m.node('SkipSimplifiedLayerNormalization', [h, skip, w], epsilon, [normal, '', '', sum])
  return { normal, h: sum }
}

function afterSubLayer(
  context: GraphContext,
  h: string,
  block: string,
  place: Placement,
  output: string,
): Stream {
  if (!context.carries.rich) return { h, skip: output }
  const sum = context.m.node('Add', [h, output])
  return { h: sum, skip: bottleneckSite(context, block, place, output, sum) }
}

function mlp(context: GraphContext, block: string, x: string): string {
  const { m } = context
  const gate = linearSite(context, `${block}.mlp.gate_proj`, x)
  const up = linearSite(context, `${block}.mlp.up_proj`, x)
  const silu = m.node('QuickGelu', [gate], { alpha: { float: 1 } })
  return linearSite(context, `${block}.mlp.down_proj`, m.node('Mul', [silu, up]))
}

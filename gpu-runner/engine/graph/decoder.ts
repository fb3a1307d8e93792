import type { Checkpoint } from '../../checkpoint/read-checkpoint.ts'
import { attention, attentionInputs, attentionOutputs } from './attention.ts'
import type { Placement } from './bottleneck-keys.ts'
import { bottleneckPageInputs, bottleneckPages } from './bottleneck-pages.ts'
import { bottleneckInputs, bottleneckSite } from './bottleneck-site.ts'
import { type GraphContext, type GraphForm, graphContext, groupOf } from './context.ts'
import { embedding } from './embedding.ts'
import { linearGroup } from './linear-group.ts'
import { lmHead } from './lm-head.ts'
import { pageInputs } from './low-rank-pages.ts'
import { oneAdapterInputs } from './one-adapter.ts'
import { ONNX_TYPE, OnnxModel } from './onnx-model.ts'
import { ownInputs, ownNorm } from './own-tensors.ts'
import { vectorInputs } from './row-vectors.ts'
import type { WeightFile } from './weight-file.ts'

const { FLOAT, INT64, BOOL } = ONNX_TYPE

/**
 * Writes a Llama decoder as an ONNX graph. B rows, T new tokens each (tokens = B*T), S past capacity, P positions whose
 * logits are asked for. Everything between the blocks' attentions is [tokens, width].
 *
 *   ids [tokens], pos [B,T], grid [3] = (B, T, -1), take [P] (indices into tokens) -> logits [P,vocab]
 *
 * The KV cache stays outside: past rows come in as views and only the step's own rows go out.
 * Inputs of attention and of adapters are described where they are read; masks select with Where and never multiply, since Inf * 0 is NaN.
 *
 * @param weights where the weights lie, and where those that are missing are put
 */
export function buildDecoder(
  checkpoint: Checkpoint,
  weights: WeightFile,
  form: GraphForm,
): Uint8Array {
  const m = new OnnxModel(weights)
  const context = graphContext(m, checkpoint, form)
  const { layers } = checkpoint.config
  m.input('ids', INT64, ['tokens'])
  m.input('pos', INT64, ['B', 'T'])
  m.input('grid', INT64, [3])
  attentionInputs(context)
  adapterInputs(context)

  let embedded = embedding(context)
  if (context.carries.virtual)
    embedded = m.node('Where', ['virtual.mask', 'virtual.embeddings', embedded])
  let stream: Stream = { h: embedded, skip: null }
  for (let layer = 0; layer < layers; layer++) {
    const block = `model.layers.${layer}`
    const beforeAttention = normalise(context, stream, `${block}.input_layernorm`)
    const attended = attention(context, layer, beforeAttention.normal)
    stream = afterSubLayer(context, beforeAttention.h, block, 'attention', attended)
    const beforeFfn = normalise(context, stream, `${block}.post_attention_layernorm`)
    const fed = mlp(context, block, beforeFfn.normal)
    stream = afterSubLayer(context, beforeFfn.h, block, 'ffn', fed)
  }
  attentionOutputs(context)
  lmHead(context, normalise(context, stream, 'model.norm').normal)
  return m.finish()
}

/** The residual stream h, and what is still to be added to it. */
interface Stream {
  h: string
  skip: string | null
}

/** Inputs that say which rows use which adapter machinery. */
function adapterInputs(context: GraphContext): void {
  const { m, checkpoint, carries } = context
  if (carries.oneAdapter) oneAdapterInputs(context)
  else if (carries.lowRank) pageInputs(context)
  if (carries.vectors) vectorInputs(context)
  if (carries.bottlenecks) bottleneckPageInputs(context)
  if (carries.virtual) {
    m.input('virtual.mask', BOOL, ['tokens', 1])
    m.input('virtual.embeddings', FLOAT, ['tokens', checkpoint.config.hidden])
  }
  if (carries.own) {
    bottleneckInputs(context)
    ownInputs(context)
  }
}

/** Adds what the last sub-layer gave and normalises. @returns the normalised value, and the sum as the new h */
function normalise(
  context: GraphContext,
  stream: Stream,
  site: string,
): { normal: string; h: string } {
  const added = addNorm(context, stream, `${site}.weight`)
  if (!context.carries.own) return added
  return { ...added, normal: ownNorm(context, site, added.h, added.normal) }
}

function addNorm({ m, checkpoint }: GraphContext, { h, skip }: Stream, weight: string) {
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
  const { carries, traits } = context
  let skip = carries.own ? bottleneckSite(context, block, place, h, output) : output
  if (carries.bottlenecks && traits.places.has(place))
    skip = bottleneckPages(context, block, place, h, skip)
  return { h, skip }
}

function mlp(context: GraphContext, block: string, x: string): string {
  const { m, checkpoint } = context
  const { intermediate } = checkpoint.config
  const both = linearGroup(context, groupOf(context, `${block}.gate_up`), x)
  const [gate, up] = [`${block}.gate`, `${block}.up`]
  m.node('Split', [both, m.integers([intermediate, intermediate])], { axis: -1 }, [gate, up])
  const silu = m.node('QuickGelu', [gate], { alpha: { float: 1 } })
  const down = groupOf(context, `${block}.down`)
  return linearGroup(context, down, m.node('Mul', [silu, up]))
}

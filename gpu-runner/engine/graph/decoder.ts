import type { Activation } from '@graft/sdk/format/operations.ts'
import type { Checkpoint } from '../../checkpoint/read-checkpoint.ts'
import { activate } from './activations.ts'
import { linear, type Precision } from './linear-weights.ts'
import { ONNX_TYPE, OnnxModel } from './onnx-model.ts'
import { bottleneckKey, linearSites, type Placement } from './sites.ts'
import { VARIANTS, type Variant } from './variants.ts'

const { FLOAT, INT64, BOOL } = ONNX_TYPE

export const EXTERNAL_NAME = 'weights.bin'

/** Activations that a bottleneck may name and that the graph computes; `linear` is the absence of one. */
export const GRAPH_ACTIVATIONS: Activation[] = [
  'relu',
  'silu',
  'gelu',
  'gelu_new',
  'tanh',
  'sigmoid',
  'leaky_relu',
]

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
): { model: Uint8Array; external: Uint8Array } {
  const { config } = checkpoint
  const { hidden, heads, kvHeads, headDim, layers, vocab } = config
  const { lowRank, rich, head } = VARIANTS[variant]
  const group = heads / kvHeads
  const m = new OnnxModel(EXTERNAL_NAME)
  const sites = new Map(linearSites(config).map((site) => [site.path, site]))

  const ids = m.input('ids', INT64, ['B', 'T'])
  const pos = m.input('pos', INT64, ['B', 'T'])
  const visible = m.input('visible', BOOL, ['B', 1, 'GT', 'ST'])
  const split = m.input('split', INT64, [2])
  const take = m.input('take', INT64, ['P'])
  if (lowRank) {
    m.input('low_rank.mask', BOOL, ['B', 1, 'R'])
    m.input('low_rank.scale', FLOAT, ['B', 1, 'R'])
  }
  if (rich) {
    m.input('vector.row', INT64, ['B', 1])
    m.input('bottleneck.mask', BOOL, ['B', 1, 'M'])
    for (const name of GRAPH_ACTIVATIONS) m.input(`bottleneck.is_${name}`, BOOL, [1, 1, 'M'])
    for (const place of ['attention', 'ffn'])
      m.input(`bottleneck.${place}.after_add`, BOOL, ['B', 1, 1])
    m.input('virtual.mask', BOOL, ['B', 'T', 1])
    m.input('virtual.embeddings', FLOAT, ['B', 'T', hidden])
  }
  const zero = m.constant('zero', FLOAT, [], new Float32Array([0]))
  const hiddenSkip = (name: string) =>
    m.constant(name, FLOAT, [hidden], checkpoint.f32(name, [hidden]))
  const epsilon = { epsilon: { float: config.normEpsilon } }

  const { cos, sin } = rotaryTables(config.maxPositions, headDim, config.ropeTheta)
  const tableDims = [config.maxPositions, headDim / 2]
  m.weight('rope.cos', FLOAT, tableDims, cos)
  m.weight('rope.sin', FLOAT, tableDims, sin)

  /** A linear site: y = c * W(l * x) + B(select(A x) * s), c and l from the row's vectors. */
  const site = (path: string, x: string): string => {
    const { in: inner, out } = sites.get(path)!
    const w = checkpoint.f32(`${path}.weight`, [out, inner])
    let input = x
    if (rich) {
      const table = m.input(`${path}.in_vectors`, FLOAT, ['N', inner])
      input = m.node('Mul', [x, m.node('Gather', [table, 'vector.row'], { axis: 0 })])
    }
    let y = linear(m, precision, path, input, w, out, inner)
    if (rich) {
      const table = m.input(`${path}.out_vectors`, FLOAT, ['N', out])
      y = m.node('Mul', [y, m.node('Gather', [table, 'vector.row'], { axis: 0 })])
    }
    if (!lowRank) return y
    const a = m.input(`${path}.A`, FLOAT, ['R', inner])
    const b = m.input(`${path}.B`, FLOAT, ['R', out])
    const shrunk = m.node('FusedMatMul', [x, a], { transB: 1 })
    const own = m.node('Where', ['low_rank.mask', shrunk, zero])
    const scaled = m.node('Mul', [own, 'low_rank.scale'])
    return m.node('Add', [y, m.node('MatMul', [scaled, b])])
  }

  /** U act(D h + d) + u of the row's own bottleneck; h is the sub-layer's output, before or after the residual add. */
  const bottleneck = (block: string, place: Placement, output: string, sum: string): string => {
    const key = bottleneckKey(block, place)
    const down = m.input(`${key}.down`, FLOAT, ['M', hidden])
    const downBias = m.input(`${key}.down_bias`, FLOAT, ['M'])
    const up = m.input(`${key}.up`, FLOAT, ['M', hidden])
    const upBias = m.input(`${key}.up_bias`, FLOAT, ['N', hidden])
    const h = m.node('Where', [`bottleneck.${place}.after_add`, sum, output])
    const z = m.node('Add', [m.node('FusedMatMul', [h, down], { transB: 1 }), downBias])
    const act = GRAPH_ACTIVATIONS.reduce(
      (rest, name) => m.node('Where', [`bottleneck.is_${name}`, activate(m, name, z), rest]),
      z,
    )
    const own = m.node('Where', ['bottleneck.mask', act, zero])
    const bias = m.node('Gather', [upBias, 'vector.row'], { axis: 0 })
    return m.node('Add', [m.node('MatMul', [own, up]), bias])
  }

  const attention = (block: string, layer: number, x: string): string => {
    const rotate = (name: string, count: number) =>
      m.node(
        'RotaryEmbedding',
        [site(`${block}.self_attn.${name}`, x), pos, 'rope.cos', 'rope.sin'],
        {
          num_heads: count,
          interleaved: 0,
        },
      )
    const q = rotate('q_proj', heads)
    const k = rotate('k_proj', kvHeads)
    const v = site(`${block}.self_attn.v_proj`, x)
    const dims = [`B`, kvHeads, 'S', headDim]
    const pastK = m.input(`past.${layer}.k`, FLOAT, dims)
    const pastV = m.input(`past.${layer}.v`, FLOAT, dims)
    const heads4 = (value: string, out: string) => {
      const split4 = m.node('Reshape', [value, m.integers([0, -1, kvHeads, headDim])])
      m.output(out, FLOAT, ['B', kvHeads, 'T', headDim])
      return m.node('Transpose', [split4], { perm: [0, 2, 1, 3] }, [out])
    }
    const newK = heads4(k, `new.${layer}.k`)
    const newV = heads4(v, `new.${layer}.v`)
    // Query heads that share a key head stand beside each other as rows: [B, kvHeads, group * T, headDim].
    const q5 = m.node('Reshape', [q, m.integers([0, -1, kvHeads, group, headDim])])
    const q5t = m.node('Transpose', [q5], { perm: [0, 2, 3, 1, 4] })
    const q4 = m.node('Reshape', [q5t, m.integers([0, kvHeads, -1, headDim])])
    const scores = (keys: string) =>
      m.node('FusedMatMul', [q4, keys], { transB: 1, alpha: { float: 1 / Math.sqrt(headDim) } })
    const all = m.node('Concat', [scores(pastK), scores(newK)], { axis: -1 })
    const lowest = m.constant('lowest', FLOAT, [], new Float32Array([-Infinity]))
    const weights = m.node('Softmax', [m.node('Where', [visible, all, lowest])], { axis: -1 })
    const [past, own] = [`past_weights.${layer}`, `own_weights.${layer}`]
    m.node('Split', [weights, split], { axis: -1 }, [past, own])
    const mixed = m.node('Add', [m.node('MatMul', [past, pastV]), m.node('MatMul', [own, newV])])
    const o5 = m.node('Reshape', [mixed, m.integers([0, kvHeads, group, -1, headDim])])
    const o5t = m.node('Transpose', [o5], { perm: [0, 3, 1, 2, 4] })
    const merged = m.node('Reshape', [o5t, m.integers([0, -1, heads * headDim])])
    return site(`${block}.self_attn.o_proj`, merged)
  }

  const mlp = (block: string, x: string): string => {
    const gate = site(`${block}.mlp.gate_proj`, x)
    const up = site(`${block}.mlp.up_proj`, x)
    const silu = m.node('QuickGelu', [gate], { alpha: { float: 1 } })
    return site(`${block}.mlp.down_proj`, m.node('Mul', [silu, up]))
  }

  const embedName = 'model.embed_tokens.weight'
  const embed = m.weight(
    embedName,
    FLOAT,
    [vocab, hidden],
    checkpoint.f32(embedName, [vocab, hidden]),
  )
  let h = m.node('Gather', [embed, ids], { axis: 0 })
  if (rich) h = m.node('Where', ['virtual.mask', 'virtual.embeddings', h])
  let skip: string | null = null
  /** Adds what the last sub-layer gave and normalises. @returns the normalised value; h becomes the sum */
  const normalise = (weight: string): string => {
    const w = hiddenSkip(weight)
    if (skip === null)
      return m.node('SimplifiedLayerNormalization', [h, w], { axis: -1, ...epsilon })
    const out = `${weight}.out`
    m.node('SkipSimplifiedLayerNormalization', [h, skip, w], epsilon, [
      out,
      '',
      '',
      `${weight}.sum`,
    ])
    h = `${weight}.sum`
    return out
  }
  const afterSubLayer = (block: string, place: Placement, output: string): void => {
    if (!rich) {
      skip = output
      return
    }
    const sum = m.node('Add', [h, output])
    h = sum
    skip = bottleneck(block, place, output, sum)
  }
  for (let layer = 0; layer < layers; layer++) {
    const block = `model.layers.${layer}`
    afterSubLayer(
      block,
      'attention',
      attention(block, layer, normalise(`${block}.input_layernorm.weight`)),
    )
    afterSubLayer(block, 'ffn', mlp(block, normalise(`${block}.post_attention_layernorm.weight`)))
  }
  const final = normalise('model.norm.weight')
  const flat = m.node('Reshape', [final, m.integers([-1, hidden])])
  const taken = m.node('Gather', [flat, take], { axis: 0 })
  const headWeight = checkpoint.f32('lm_head.weight', [vocab, hidden])
  let logits = linear(m, precision, 'lm_head', taken, headWeight, vocab, hidden)
  if (head) {
    // [A,P,vocab] of every other head in the bank; each position takes its own row's, or the base's.
    m.input('lm_head.others', FLOAT, ['A', hidden, vocab])
    m.input('lm_head.choice', BOOL, ['A', 'P', 1])
    m.input('lm_head.any', BOOL, ['P', 1])
    const others = m.node('MatMul', [taken, 'lm_head.others'])
    const chosen = m.node('Where', ['lm_head.choice', others, zero])
    const own = m.node('ReduceSum', [chosen, m.integers([0])], { keepdims: 0 })
    logits = m.node('Where', ['lm_head.any', own, logits])
  }
  m.output('logits', FLOAT, ['P', vocab])
  m.node('Identity', [logits], {}, ['logits'])
  return m.finish()
}

/** cos and sin [positions, headDim / 2] of RoPE (arXiv 2104.09864), computed in f64 and rounded once. */
function rotaryTables(
  positions: number,
  headDim: number,
  theta: number,
): { cos: Float32Array; sin: Float32Array } {
  const half = headDim / 2
  const cos = new Float32Array(positions * half)
  const sin = new Float32Array(positions * half)
  for (let i = 0; i < half; i++) {
    // The peers hold inverse frequencies in f32 and multiply in f32; so do we, to agree at long positions.
    const frequency = Math.fround(1 / theta ** ((2 * i) / headDim))
    for (let p = 0; p < positions; p++) {
      const angle = Math.fround(p * frequency)
      cos[p * half + i] = Math.cos(angle)
      sin[p * half + i] = Math.sin(angle)
    }
  }
  return { cos, sin }
}

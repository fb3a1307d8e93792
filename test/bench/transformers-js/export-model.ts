import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Checkpoint } from '@graft/runner/checkpoint/read-checkpoint.ts'
import { ONNX_TYPE, OnnxModel } from '@graft/runner/engine/graph/onnx-model.ts'
import { BLOCK, quantizeBlocks } from '@graft/runner/engine/graph/quantise/blocks.ts'
import { rotaryTables } from '@graft/runner/engine/graph/rotary.ts'
import { linearSites } from '@graft/runner/engine/graph/sites.ts'
import { MemoryWeights } from '@graft/runner/engine/graph/weight-file.ts'

const { FLOAT, INT32, INT64, UINT8 } = ONNX_TYPE
const MODEL = 'model_q4.onnx'

/**
 * Writes the base as transformers.js loads one from a folder: config.json and onnx/model_q4.onnx with its data file, in
 * the form of the public exports: past_key_values.<l>.key/value in, the whole present.<l>.key/value out, attention by
 * GroupQueryAttention, matrices by MatMulNBits in blocks of 32, embeddings in f32.
 * Their exports leave MatMulNBits' accuracy level open; int8 activations, the fastest, are asked for here, as in Graft.
 */
export async function exportModel(folder: string, checkpoint: Checkpoint): Promise<void> {
  const { config } = checkpoint
  const { hidden, heads, kvHeads, headDim, layers, vocab } = config
  const weights = new MemoryWeights(`${MODEL}_data`)
  const m = new OnnxModel(weights)
  const epsilon = { epsilon: { float: config.normEpsilon } }
  const sizes = new Map(linearSites(config).map((site) => [site.path, site]))

  m.input('input_ids', INT64, ['batch_size', 'sequence_length'])
  m.input('attention_mask', INT64, ['batch_size', 'total_sequence_length'])
  for (let layer = 0; layer < layers; layer++)
    for (const kind of ['key', 'value']) {
      const past = ['batch_size', kvHeads, 'past_sequence_length', headDim]
      m.input(`past_key_values.${layer}.${kind}`, FLOAT, past)
    }

  const linear = (name: string, x: string, out: number, inner: number): string => {
    const blocks = () => quantizeBlocks(checkpoint.f32(`${name}.weight`, [out, inner]), 4)
    const q = m.weight(`${name}.q`, UINT8, [out, inner / BLOCK, BLOCK / 2], () => blocks().q)
    const scales = m.weight(`${name}.scales`, FLOAT, [(out * inner) / BLOCK], () => blocks().scales)
    const attributes = { K: inner, N: out, bits: 4, block_size: BLOCK, accuracy_level: 4 }
    return m.node('MatMulNBits', [x, q, scales], attributes)
  }
  const site = (path: string, x: string): string => {
    const { in: inner, out } = sizes.get(path)!
    return linear(path, x, out, inner)
  }
  const norm = (name: string) => m.constant(name, FLOAT, [hidden], checkpoint.f32(name, [hidden]))
  const rotary = rotaryTables(config.maxPositions, headDim, config.ropeTheta)
  const table = [config.maxPositions, headDim / 2]
  const cos = m.weight('cos_cache', FLOAT, table, () => rotary.cos)
  const sin = m.weight('sin_cache', FLOAT, table, () => rotary.sin)

  // Sequence lengths by the mask, as the exports derive them.
  const int32 = (value: string) => m.node('Cast', [value], { to: INT32 })
  const filled = m.node('ReduceSum', ['attention_mask', m.integers([1])], { keepdims: 0 })
  const lengths = int32(m.node('Sub', [filled, m.integers([1])]))
  const shape = m.node('Shape', ['attention_mask'])
  const total = int32(m.node('Gather', [shape, m.integers([1], true)], { axis: 0 }))

  const embedName = 'model.embed_tokens.weight'
  const embed = m.weight(embedName, FLOAT, [vocab, hidden], () =>
    checkpoint.f32(embedName, [vocab, hidden]),
  )
  let h = m.node('Gather', [embed, 'input_ids'], { axis: 0 })
  let skip: string | null = null
  /** Adds what the last sub-layer gave, then normalises. */
  const normalise = (name: string): string => {
    if (skip === null)
      return m.node('SimplifiedLayerNormalization', [h, norm(name)], { axis: -1, ...epsilon })
    const outputs = [`${name}.out`, '', '', `${name}.sum`]
    const out = m.node('SkipSimplifiedLayerNormalization', [h, skip, norm(name)], epsilon, outputs)
    h = `${name}.sum`
    return out
  }
  for (let layer = 0; layer < layers; layer++) {
    const block = `model.layers.${layer}`
    const x = normalise(`${block}.input_layernorm.weight`)
    const [past, present] = [`past_key_values.${layer}`, `present.${layer}`]
    for (const kind of ['key', 'value'])
      m.output(`${present}.${kind}`, FLOAT, [
        'batch_size',
        kvHeads,
        'total_sequence_length',
        headDim,
      ])
    const attention = m.node(
      'GroupQueryAttention',
      [
        ...['q_proj', 'k_proj', 'v_proj'].map((name) => site(`${block}.self_attn.${name}`, x)),
        `${past}.key`,
        `${past}.value`,
        lengths,
        total,
        cos,
        sin,
      ],
      { num_heads: heads, kv_num_heads: kvHeads, do_rotary: 1, rotary_interleaved: 0 },
      [`${block}.attention`, `${present}.key`, `${present}.value`],
    )
    skip = site(`${block}.self_attn.o_proj`, attention)
    const y = normalise(`${block}.post_attention_layernorm.weight`)
    const gate = site(`${block}.mlp.gate_proj`, y)
    const silu = m.node('Mul', [gate, m.node('Sigmoid', [gate])])
    const inner = m.node('Mul', [silu, site(`${block}.mlp.up_proj`, y)])
    skip = site(`${block}.mlp.down_proj`, inner)
  }
  const final = normalise('model.norm.weight')
  m.output('logits', FLOAT, ['batch_size', 'sequence_length', vocab])
  m.node('Identity', [linear('lm_head', final, vocab, hidden)], {}, ['logits'])

  await mkdir(join(folder, 'onnx'), { recursive: true })
  await writeFile(join(folder, 'onnx', MODEL), m.finish())
  await writeFile(join(folder, 'onnx', weights.name), weights.bytes)
  const json = {
    architectures: [config.architecture],
    model_type: config.modelType,
    vocab_size: vocab,
    hidden_size: hidden,
    intermediate_size: config.intermediate,
    num_hidden_layers: layers,
    num_attention_heads: heads,
    num_key_value_heads: kvHeads,
    head_dim: headDim,
    max_position_embeddings: config.maxPositions,
    'transformers.js_config': { use_external_data_format: { [MODEL]: true } },
  }
  await writeFile(join(folder, 'config.json'), JSON.stringify(json))
}

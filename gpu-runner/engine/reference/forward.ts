import type { Checkpoint } from '../../checkpoint/read-checkpoint.ts'
import {
  bottleneck,
  operationsAt,
  slot,
  summedLinear,
  type WeightedAdapter,
} from './adapter-maths.ts'
import { product, rmsNorm, rotate, silu } from './maths.ts'

/** Keys (rotated) and values of one sequence: [layer][position] of [kvHeads * headDim]. */
export interface Past {
  keys: Float64Array[][]
  values: Float64Array[][]
}

/** Keys and values that prefix tuning puts before position 0. */
export function pastOf(checkpoint: Checkpoint, terms: WeightedAdapter[]): Past {
  const { layers, kvHeads, headDim } = checkpoint.config
  const past: Past = {
    keys: Array.from({ length: layers }, () => []),
    values: Array.from({ length: layers }, () => []),
  }
  for (const { adapter } of terms)
    for (let layer = 0; layer < layers; layer++)
      for (const { slots, virtualTokens } of operationsAt(
        adapter,
        'prefix',
        `model.layers.${layer}.self_attn`,
      ))
        for (const [rows, name] of [
          [past.keys[layer]!, slots.k],
          [past.values[layer]!, slots.v],
        ] as const) {
          const tensor = slot(adapter, name)
          for (let t = 0; t < virtualTokens; t++) {
            const row = new Float64Array(kvHeads * headDim)
            for (let head = 0; head < kvHeads; head++)
              for (let i = 0; i < headDim; i++)
                row[head * headDim + i] = tensor[(head * virtualTokens + t) * headDim + i]!
            rows.push(row)
          }
        }
  return past
}

/** A token's embedding [hidden]: the base's, or the row that an adapter replaces. */
export function embeddingOf(
  checkpoint: Checkpoint,
  terms: WeightedAdapter[],
  id: number,
): Float64Array {
  const { vocab, hidden } = checkpoint.config
  let [table, row] = [checkpoint.f32('model.embed_tokens.weight', [vocab, hidden]), id]
  for (const { adapter } of terms)
    for (const operation of operationsAt(adapter, 'replace', 'model.embed_tokens')) {
      const at = operation.rows ? operation.rows.indexOf(id) : id
      if (at >= 0) [table, row] = [slot(adapter, operation.slots.value), at]
    }
  return Float64Array.from(table.subarray(row * hidden, (row + 1) * hidden))
}

/** Runs one position through the blocks and appends its keys and values. @returns the last hidden state, normalised */
export function advance(
  checkpoint: Checkpoint,
  terms: WeightedAdapter[],
  past: Past,
  embedding: Float64Array,
): Float64Array {
  const { layers, hidden, normEpsilon } = checkpoint.config
  const norm = (name: string, x: Float64Array) =>
    rmsNorm(x, checkpoint.f32(`${name}.weight`, [hidden]), normEpsilon)
  let h = embedding
  for (let layer = 0; layer < layers; layer++) {
    const block = `model.layers.${layer}`
    const attended = attention(checkpoint, terms, past, layer, norm(`${block}.input_layernorm`, h))
    h = afterSubLayer(terms, block, 'attention', h, attended)
    const mixed = mlp(checkpoint, terms, block, norm(`${block}.post_attention_layernorm`, h))
    h = afterSubLayer(terms, block, 'ffn', h, mixed)
  }
  return norm('model.norm', h)
}

/** Logits [vocab] of a normalised hidden state. */
export function logitsOf(
  checkpoint: Checkpoint,
  terms: WeightedAdapter[],
  h: Float64Array,
): Float32Array {
  const { vocab, hidden } = checkpoint.config
  let head = checkpoint.f32('lm_head.weight', [vocab, hidden])
  for (const { adapter } of terms)
    for (const { slots } of operationsAt(adapter, 'replace', 'lm_head'))
      head = slot(adapter, slots.value)
  return Float32Array.from(product(head, h))
}

/** h + output + the row's bottleneck, which reads the output before or after the residual add. */
function afterSubLayer(
  terms: WeightedAdapter[],
  block: string,
  placement: 'attention' | 'ffn',
  h: Float64Array,
  output: Float64Array,
): Float64Array {
  const sum = h.map((value, i) => value + output[i]!)
  const result = sum.slice()
  for (const { adapter } of terms)
    for (const operation of operationsAt(adapter, 'bottleneck', block)) {
      if (operation.placement !== placement) continue
      const delta = bottleneck(adapter, operation, operation.originalLnBefore ? sum : output)
      for (let i = 0; i < result.length; i++) result[i]! += delta[i]!
    }
  return result
}

/** Causal attention of one position over all earlier ones; query head n reads key head floor(n / group). */
function attention(
  checkpoint: Checkpoint,
  terms: WeightedAdapter[],
  past: Past,
  layer: number,
  x: Float64Array,
): Float64Array {
  const { hidden, heads, kvHeads, headDim, ropeTheta } = checkpoint.config
  const linear = (name: string, input: Float64Array, out: number) => {
    const site = `model.layers.${layer}.self_attn.${name}`
    const w = checkpoint.f32(`${site}.weight`, [out, input.length])
    return summedLinear(terms, site, w, input)
  }
  const [keys, values] = [past.keys[layer]!, past.values[layer]!]
  const position = keys.length
  const q = linear('q_proj', x, heads * headDim)
  const k = linear('k_proj', x, kvHeads * headDim)
  rotate(q, headDim, position, ropeTheta)
  rotate(k, headDim, position, ropeTheta)
  keys.push(k)
  values.push(linear('v_proj', x, kvHeads * headDim))
  const mixed = new Float64Array(heads * headDim)
  for (let head = 0; head < heads; head++) {
    const from = Math.floor(head / (heads / kvHeads)) * headDim
    const scores = keys.map((key) => {
      let sum = 0
      for (let i = 0; i < headDim; i++) sum += q[head * headDim + i]! * key[from + i]!
      return sum / Math.sqrt(headDim)
    })
    const most = Math.max(...scores)
    const weights = scores.map((score) => Math.exp(score - most))
    const total = weights.reduce((sum, weight) => sum + weight, 0)
    for (const [p, value] of values.entries())
      for (let i = 0; i < headDim; i++)
        mixed[head * headDim + i]! += (weights[p]! / total) * value[from + i]!
  }
  return linear('o_proj', mixed, hidden)
}

/** down(silu(gate x) * up x). */
function mlp(
  checkpoint: Checkpoint,
  terms: WeightedAdapter[],
  block: string,
  x: Float64Array,
): Float64Array {
  const { hidden, intermediate } = checkpoint.config
  const linear = (name: string, input: Float64Array, out: number) => {
    const site = `${block}.mlp.${name}`
    const w = checkpoint.f32(`${site}.weight`, [out, input.length])
    return summedLinear(terms, site, w, input)
  }
  const gate = linear('gate_proj', x, intermediate)
  const up = linear('up_proj', x, intermediate)
  return linear(
    'down_proj',
    gate.map((value, i) => silu(value) * up[i]!),
    hidden,
  )
}

import type { Checkpoint } from '../../checkpoint/read-checkpoint.ts'
import { placedKeys } from '../prefix-keys.ts'
import {
  operationsAt,
  replaced,
  slot,
  summedLinear,
  type WeightedAdapter,
} from './adapter-maths.ts'
import { afterSubLayer } from './bottleneck.ts'
import { product, rmsNorm, rotate, silu } from './maths.ts'

/** Keys (rotated) and values of one sequence: [layer][position] of [kvHeads * headDim]. */
export interface Past {
  keys: Float64Array[][]
  values: Float64Array[][]
}

/** Keys and values that prefix tuning puts before position 0. */
export function pastOf(checkpoint: Checkpoint, terms: WeightedAdapter[]): Past {
  const { layers, kvHeads, headDim, ropeTheta } = checkpoint.config
  const past: Past = {
    keys: Array.from({ length: layers }, () => []),
    values: Array.from({ length: layers }, () => []),
  }
  for (const { adapter } of terms)
    for (let layer = 0; layer < layers; layer++)
      for (const prefix of operationsAt(adapter, 'prefix', `model.layers.${layer}.self_attn`)) {
        const { slots, virtualTokens } = prefix
        for (const [rows, tensor] of [
          [past.keys[layer]!, placedKeys(slot(adapter, slots.k), prefix, ropeTheta)],
          [past.values[layer]!, slot(adapter, slots.v)],
        ] as const)
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

/**
 * Runs the tokens of one call through the blocks and appends their keys and values.
 * @param embeddings [hidden] of each token
 * @returns the last hidden state of each, normalised
 */
export function advance(
  checkpoint: Checkpoint,
  terms: WeightedAdapter[],
  past: Past,
  embeddings: Float64Array[],
): Float64Array[] {
  const { layers, hidden, normEpsilon } = checkpoint.config
  const norm = (name: string, x: Float64Array) => {
    let weight = checkpoint.f32(`${name}.weight`, [hidden])
    for (const { adapter } of terms) weight = replaced(adapter, name, 'weight') ?? weight
    return rmsNorm(x, weight, normEpsilon)
  }
  let stream = embeddings
  for (let layer = 0; layer < layers; layer++) {
    const block = `model.layers.${layer}`
    const attended = stream.map((x) =>
      attention(checkpoint, terms, past, layer, norm(`${block}.input_layernorm`, x)),
    )
    stream = afterSubLayer(terms, block, 'attention', stream, attended)
    const mixed = stream.map((x) =>
      mlp(checkpoint, terms, block, norm(`${block}.post_attention_layernorm`, x)),
    )
    stream = afterSubLayer(terms, block, 'ffn', stream, mixed)
  }
  return stream.map((x) => norm('model.norm', x))
}

/** Logits [vocab] of a normalised hidden state; an adapter may replace the head or rows of it. */
export function logitsOf(
  checkpoint: Checkpoint,
  terms: WeightedAdapter[],
  h: Float64Array,
): Float32Array {
  const { vocab, hidden } = checkpoint.config
  let head = checkpoint.f32('lm_head.weight', [vocab, hidden])
  for (const { adapter } of terms) head = replaced(adapter, 'lm_head', 'weight') ?? head
  const logits = Float32Array.from(product(head, h))
  for (const { adapter } of terms)
    for (const { rows, slots } of operationsAt(adapter, 'replace', 'lm_head'))
      for (const [i, value] of product(slot(adapter, slots.value), h).entries())
        if (rows) logits[rows[i]!] = value
  return logits
}

/** y of a linear at a module path, with whatever the terms do to it. */
function linear(
  checkpoint: Checkpoint,
  terms: WeightedAdapter[],
  site: string,
  x: Float64Array,
  out: number,
): Float64Array {
  const { attentionBias, mlpBias } = checkpoint.config
  const biased = site.includes('.mlp.') ? mlpBias : attentionBias
  const w = checkpoint.f32(`${site}.weight`, [out, x.length])
  const bias = biased ? checkpoint.f32(`${site}.bias`, [out]) : null
  return summedLinear(terms, site, { w, bias }, x)
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
  const project = (name: string, input: Float64Array, out: number) =>
    linear(checkpoint, terms, `model.layers.${layer}.self_attn.${name}`, input, out)
  const [keys, values] = [past.keys[layer]!, past.values[layer]!]
  const position = keys.length
  const q = project('q_proj', x, heads * headDim)
  const k = project('k_proj', x, kvHeads * headDim)
  rotate(q, headDim, position, ropeTheta)
  rotate(k, headDim, position, ropeTheta)
  keys.push(k)
  values.push(project('v_proj', x, kvHeads * headDim))
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
  return project('o_proj', mixed, hidden)
}

/** down(silu(gate x) * up x). */
function mlp(
  checkpoint: Checkpoint,
  terms: WeightedAdapter[],
  block: string,
  x: Float64Array,
): Float64Array {
  const { hidden, intermediate } = checkpoint.config
  const project = (name: string, input: Float64Array, out: number) =>
    linear(checkpoint, terms, `${block}.mlp.${name}`, input, out)
  const gate = project('gate_proj', x, intermediate)
  const up = project('up_proj', x, intermediate)
  return project(
    'down_proj',
    gate.map((value, i) => silu(value) * up[i]!),
    hidden,
  )
}

import { deviceAttention, deviceAttentionInputs } from './attention-device.ts'
import type { GraphContext } from './context.ts'
import { linearSite } from './linear-site.ts'
import { ONNX_TYPE } from './onnx-model.ts'
import { rotaryTables } from './rotary.ts'

const { FLOAT } = ONNX_TYPE

/** Inputs that the attention of every layer reads. */
export function attentionInputs(context: GraphContext): void {
  const { m, checkpoint, execution } = context
  const { maxPositions, headDim, ropeTheta } = checkpoint.config
  if (execution === 'webgpu') deviceAttentionInputs(context)
  else {
    m.input('visible', ONNX_TYPE.BOOL, ['B', 1, 'GT', 'ST'])
    m.input('split', ONNX_TYPE.INT64, [2])
  }
  const { cos, sin } = rotaryTables(maxPositions, headDim, ropeTheta)
  const dims = [maxPositions, headDim / 2]
  m.weight('rope.cos', FLOAT, dims, cos)
  m.weight('rope.sin', FLOAT, dims, sin)
}

/**
 * Grouped-query attention composed of MatMul and Softmax over views of the past and the step's own rows.
 * @param x [B,T,hidden]
 * @returns the name of the block's attention output [B,T,hidden]
 */
export function attention(context: GraphContext, layer: number, x: string): string {
  const { m, checkpoint } = context
  const { heads, kvHeads, headDim } = checkpoint.config
  const group = heads / kvHeads
  const block = `model.layers.${layer}.self_attn`
  const rotate = (name: string, count: number) =>
    m.node(
      'RotaryEmbedding',
      [linearSite(context, `${block}.${name}`, x), 'pos', 'rope.cos', 'rope.sin'],
      { num_heads: count, interleaved: 0 },
    )
  const q = rotate('q_proj', heads)
  const k = rotate('k_proj', kvHeads)
  const v = linearSite(context, `${block}.v_proj`, x)
  const attend = context.execution === 'webgpu' ? deviceAttention : hostAttention
  const mixed = attend(context, layer, q, k, v)
  const o5 = m.node('Reshape', [mixed, m.integers([0, kvHeads, group, -1, headDim])])
  const o5t = m.node('Transpose', [o5], { perm: [0, 3, 1, 2, 4] })
  const merged = m.node('Reshape', [o5t, m.integers([0, -1, heads * headDim])])
  return linearSite(context, `${block}.o_proj`, merged)
}

/**
 * Attends to views of the past and to the step's own rows, which go out for the host to keep.
 * @param q [B,T,heads*headDim] and k, rotated; v; k and v [B,T,kvHeads*headDim]
 * @returns the name of [B,kvHeads,G*T,headDim]
 */
function hostAttention(
  { m, checkpoint }: GraphContext,
  layer: number,
  q: string,
  k: string,
  v: string,
): string {
  const { heads, kvHeads, headDim } = checkpoint.config
  const group = heads / kvHeads
  const dims = ['B', kvHeads, 'S', headDim]
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
  const weights = m.node('Softmax', [m.node('Where', ['visible', all, lowest])], { axis: -1 })
  const [past, own] = [`past_weights.${layer}`, `own_weights.${layer}`]
  m.node('Split', [weights, 'split'], { axis: -1 }, [past, own])
  return m.node('Add', [m.node('MatMul', [past, pastV]), m.node('MatMul', [own, newV])])
}

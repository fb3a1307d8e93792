import { deviceAttention, deviceAttentionInputs } from './attention-device.ts'
import { type GraphContext, groupOf } from './context.ts'
import { linearGroup } from './linear-group.ts'
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
  const dims = [maxPositions, headDim / 2]
  const tables = () => rotaryTables(maxPositions, headDim, ropeTheta)
  m.weight('rope.cos', FLOAT, dims, () => tables().cos)
  m.weight('rope.sin', FLOAT, dims, () => tables().sin)
}

/**
 * Grouped-query attention composed of MatMul and Softmax over the past and the step's own rows.
 * @param x [tokens,hidden]
 * @returns the name of the block's attention output [tokens,hidden]
 */
export function attention(context: GraphContext, layer: number, x: string): string {
  const { m, checkpoint } = context
  const { heads, kvHeads, headDim } = checkpoint.config
  const group = heads / kvHeads
  const block = `model.layers.${layer}`
  const qkv = linearGroup(context, groupOf(context, `${block}.qkv`), x)
  const [qk, v] = [`${block}.qk`, `${block}.v`]
  const sizes = m.integers([(heads + kvHeads) * headDim, kvHeads * headDim])
  m.node('Split', [qkv, sizes], { axis: -1 }, [qk, v])
  // Queries and keys lie side by side and turn alike.
  const rotated = m.node(
    'RotaryEmbedding',
    [m.node('Reshape', [qk, 'grid']), 'pos', 'rope.cos', 'rope.sin'],
    { num_heads: heads + kvHeads, interleaved: 0 },
  )
  const [q, k] = [`${block}.q`, `${block}.k`]
  const headSizes = m.integers([heads * headDim, kvHeads * headDim])
  m.node('Split', [rotated, headSizes], { axis: -1 }, [q, k])
  const attend = context.execution === 'webgpu' ? deviceAttention : hostAttention
  const mixed = attend(context, layer, q, k, m.node('Reshape', [v, 'grid']))
  const o5 = m.node('Reshape', [mixed, m.integers([0, kvHeads, group, -1, headDim])])
  const o5t = m.node('Transpose', [o5], { perm: [0, 3, 1, 2, 4] })
  const merged = m.node('Reshape', [o5t, m.integers([-1, heads * headDim])])
  return linearGroup(context, groupOf(context, `${block}.o`), merged)
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

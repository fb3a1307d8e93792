import { deviceAttention, deviceAttentionInputs } from './attention-device.ts'
import { hostAttention, hostAttentionInputs, hostAttentionOutputs } from './attention-host.ts'
import { type GraphContext, groupOf } from './context.ts'
import { linearGroup } from './linear-group.ts'
import { zeroColumn } from './linear-guard.ts'
import { ONNX_TYPE } from './onnx-model.ts'
import { rotaryTables } from './rotary.ts'

const { FLOAT } = ONNX_TYPE

/** Inputs that the attention of every layer reads. */
export function attentionInputs(context: GraphContext): void {
  const { m, checkpoint, execution } = context
  const { maxPositions, headDim, ropeTheta } = checkpoint.config
  if (execution === 'webgpu') deviceAttentionInputs(context)
  else hostAttentionInputs(context)
  const dims = [maxPositions, headDim / 2]
  const tables = () => rotaryTables(maxPositions, headDim, ropeTheta)
  m.weight('rope.cos', FLOAT, dims, () => tables().cos)
  m.weight('rope.sin', FLOAT, dims, () => tables().sin)
}

/** What attention gives beside its result. */
export function attentionOutputs(context: GraphContext): void {
  if (context.execution === 'cpu') hostAttentionOutputs(context)
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
  const projections = groupOf(context, `${block}.qkv`)
  const qkv = linearGroup(context, projections, x)
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
  const values = m.node('Reshape', [v, 'grid'])
  const o5 =
    context.execution === 'cpu'
      ? hostAttention(context, layer, q, k, values)
      : m.node('Reshape', [
          deviceAttention(context, layer, q, k, values),
          m.integers([0, kvHeads, group, -1, headDim]),
        ])
  const o5t = m.node('Transpose', [o5], { perm: [0, 3, 1, 2, 4] })
  const merged = m.node('Reshape', [o5t, m.integers([-1, heads * headDim])])
  // A softmax over scores that are NaN may give numbers on a GPU, where maxima pass over a NaN.
  const told =
    context.execution === 'cpu'
      ? merged
      : m.node('Add', [merged, m.node('MatMul', [qkv, zeroColumn(m, projections.out)])])
  return linearGroup(context, groupOf(context, `${block}.o`), told)
}

import type { Activation } from '@graft/sdk/format/operations.ts'
import { activate } from './activations.ts'
import type { GraphContext } from './context.ts'
import { ONNX_TYPE } from './onnx-model.ts'
import { bottleneckKey, type Placement } from './sites.ts'
import { timesTransposed } from './times-transposed.ts'

const { FLOAT } = ONNX_TYPE

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
 * U act(D h + d) + u of the row's own bottleneck.
 * @param output the sub-layer's output [tokens,hidden]
 * @param sum the same after the residual add; the row says which of the two its adapter reads
 */
export function bottleneckSite(
  context: GraphContext,
  block: string,
  place: Placement,
  output: string,
  sum: string,
): string {
  const { m, checkpoint, zero } = context
  const { hidden } = checkpoint.config
  const key = bottleneckKey(block, place)
  const down = m.input(`${key}.down`, FLOAT, ['M', hidden])
  const downBias = m.input(`${key}.down_bias`, FLOAT, ['M'])
  const up = m.input(`${key}.up`, FLOAT, ['M', hidden])
  const upBias = m.input(`${key}.up_bias`, FLOAT, ['N', hidden])
  const h = m.node('Where', [`bottleneck.${place}.after_add`, sum, output])
  const z = m.node('Add', [timesTransposed(context, h, down), downBias])
  const act = GRAPH_ACTIVATIONS.reduce(
    (rest, name) => m.node('Where', [`bottleneck.is_${name}`, activate(m, name, z), rest]),
    z,
  )
  const own = m.node('Where', ['bottleneck.mask', act, zero])
  const bias = m.node('Gather', [upBias, 'vector.row'], { axis: 0 })
  return m.node('Add', [m.node('MatMul', [own, up]), bias])
}

import type { Activation } from '@graft/sdk/format/operations.ts'
import { ONNX_TYPE, type OnnxModel } from './onnx-model.ts'

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

/** Adds the nodes of an activation. AdapterHub's names: `gelu` is exact (erf), `gelu_new` the tanh approximation. */
export function activate(m: OnnxModel, name: Activation, x: string): string {
  if (name === 'relu') return m.node('Relu', [x])
  if (name === 'silu') return m.node('QuickGelu', [x], { alpha: { float: 1 } })
  if (name === 'gelu') return m.node('Gelu', [x], { approximate: 'none' })
  if (name === 'gelu_new') return m.node('Gelu', [x], { approximate: 'tanh' })
  if (name === 'tanh') return m.node('Tanh', [x])
  if (name === 'sigmoid') return m.node('Sigmoid', [x])
  if (name === 'leaky_relu') {
    const slope = m.constant('leaky_slope', ONNX_TYPE.FLOAT, [], new Float32Array([0.01]))
    return m.node('PRelu', [x, slope])
  }
  if (name === 'linear') return x
  name satisfies never
  throw new TypeError(`unknown activation ${String(name)}`)
}

/** A bias so large that every activation of it is a power of two, up to the last bit of sigmoid and tanh. */
export const SATURATING = 32

export const activationOfSaturating = (name: Activation): number =>
  name === 'tanh' || name === 'sigmoid' ? 1 : SATURATING

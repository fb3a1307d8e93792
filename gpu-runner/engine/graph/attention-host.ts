import type { GraphContext } from './context.ts'
import { ONNX_TYPE } from './onnx-model.ts'

const { FLOAT, FLOAT16, INT8, BOOL, INT64 } = ONNX_TYPE
const PAST_TYPE = { fp32: FLOAT, fp16: FLOAT16, int8: INT8 } as const

/**
 * Inputs of attention over views of host memory.
 *
 *   visible [B,1,1,T,S+T] past positions and the step's own that a query may see, split [2] = (S, T)
 */
export function hostAttentionInputs({ m }: GraphContext): void {
  m.input('visible', BOOL, ['B', 1, 1, 'T', 'ST'])
  m.input('split', INT64, [2])
}

/** new [2*layers*B,kvHeads,1,T,headDim]: of each layer K, then V. One output costs less than one for each layer. */
export function hostAttentionOutputs({ m, checkpoint }: GraphContext): void {
  const { layers, kvHeads, headDim } = checkpoint.config
  const rows = Array.from({ length: layers }, (_, layer) => [
    newRows(layer, 'k'),
    newRows(layer, 'v'),
  ])
  m.output('new', FLOAT, ['LB', kvHeads, 1, 'T', headDim])
  m.node('Concat', rows.flat(), { axis: 0 }, ['new'])
}

const newRows = (layer: number, kind: 'k' | 'v'): string => `new.${layer}.${kind}`

/**
 * Attends to views of the past and to the step's own rows, which go out for the host to keep.
 *
 *   past.<l>.k / .v [B,kvHeads,1,S,headDim], at int8 with past.<l>.k.scale / .v.scale [B,kvHeads,1,1,S]
 *
 * Query heads that share a key head are a dimension of their own, [B,kvHeads,G,T,headDim], over which keys and values
 * broadcast: at T = 1 every product then is a vector times a matrix, which onnxruntime streams. As rows of one matrix
 * they would make it pack the whole past anew each step, which takes twice as long.
 * @param q [B,T,heads*headDim] and k, rotated; v; k and v [B,T,kvHeads*headDim]
 * @returns the name of [B,kvHeads,G,T,headDim]
 */
export function hostAttention(
  { m, checkpoint, kvPrecision }: GraphContext,
  layer: number,
  q: string,
  k: string,
  v: string,
): string {
  const { heads, kvHeads, headDim } = checkpoint.config
  /** [B,T,count*perHead*headDim] to [B,count,perHead,T,headDim]. */
  const byHead = (value: string, perHead: number, outputs?: string[]): string => {
    const split = m.node('Reshape', [value, m.integers([0, -1, kvHeads, perHead, headDim])])
    return m.node('Transpose', [split], { perm: [0, 2, 3, 1, 4] }, outputs)
  }
  const past = (kind: 'k' | 'v'): { values: string; scaled(x: string): string } => {
    const name = `past.${layer}.${kind}`
    m.input(name, PAST_TYPE[kvPrecision], ['B', kvHeads, 1, 'S', headDim])
    if (kvPrecision === 'fp32') return { values: name, scaled: (x) => x }
    const values = m.node('Cast', [name], { to: FLOAT })
    if (kvPrecision === 'fp16') return { values, scaled: (x) => x }
    const scale = m.input(`${name}.scale`, FLOAT, ['B', kvHeads, 1, 1, 'S'])
    return { values, scaled: (x) => m.node('Mul', [x, scale]) }
  }
  // With an alpha the product is no longer a plain vector times a matrix and takes four times as long; a scalar would be
  // made one by onnxruntime's optimizer, a vector is not.
  const scale = new Float32Array(headDim).fill(1 / Math.sqrt(headDim))
  m.constant('attention_scale', FLOAT, [headDim], scale)
  const queries = m.node('Mul', [byHead(q, heads / kvHeads), 'attention_scale'])
  const newK = byHead(k, 1, [newRows(layer, 'k')])
  const newV = byHead(v, 1, [newRows(layer, 'v')])
  const scores = (keys: string) => m.node('FusedMatMul', [queries, keys], { transB: 1 })
  const pastK = past('k')
  const pastV = past('v')
  const all = m.node('Concat', [pastK.scaled(scores(pastK.values)), scores(newK)], { axis: -1 })
  const lowest = m.constant('lowest', FLOAT, [], new Float32Array([-Infinity]))
  const weights = m.node('Softmax', [m.node('Where', ['visible', all, lowest])], { axis: -1 })
  const [pastWeights, ownWeights] = [`past_weights.${layer}`, `own_weights.${layer}`]
  m.node('Split', [weights, 'split'], { axis: -1 }, [pastWeights, ownWeights])
  const seen = m.node('MatMul', [pastV.scaled(pastWeights), pastV.values])
  return m.node('Add', [seen, m.node('MatMul', [ownWeights, newV])])
}

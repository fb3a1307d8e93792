import type { GraphContext } from './context.ts'
import { ONNX_TYPE } from './onnx-model.ts'

const { FLOAT, INT32 } = ONNX_TYPE

/** Below every score that can be computed; shaders may assume that infinities do not occur. */
const LOWEST = -3e38

/** Names of what every layer's attention reads, computed once for the graph. */
const READ_ROWS = 'kv.read_rows'
const WRITE_ROWS = 'kv.write_rows'
const VISIBLE = 'kv.visible'

/**
 * Inputs of attention over a cache on the device. The cache of a layer is a table of rows [rows, headDim]; a position
 * of a sequence has one row for each key head, `kv.head` [1,kvHeads,1] apart.
 *
 *   kv.read [B,1,S]    rows of positions 0..S-1 of each sequence, first head
 *   kv.write [B,1,T]   rows of the step's own positions, first head
 *   kv.column [1,1,1,S] = 0..S-1, kv.last [B,1,G*T,1] the last position that a query sees
 */
export function deviceAttentionInputs({ m, checkpoint }: GraphContext): void {
  const { kvHeads, headDim } = checkpoint.config
  m.input('kv.read', INT32, ['B', 1, 'S'])
  m.input('kv.write', INT32, ['B', 1, 'T'])
  m.input('kv.head', INT32, [1, kvHeads, 1])
  m.input('kv.column', INT32, [1, 1, 1, 'S'])
  m.input('kv.last', INT32, ['B', 1, 'GT', 1])
  m.node('Add', ['kv.read', 'kv.head'], {}, [READ_ROWS])
  const write = m.node('Reshape', [m.node('Add', ['kv.write', 'kv.head']), m.integers([-1, 1])])
  m.node('Expand', [write, m.integers([1, headDim])], {}, [WRITE_ROWS])
  m.node('LessOrEqual', ['kv.column', 'kv.last'], {}, [VISIBLE])
}

/**
 * Writes the step's rows into the cache, which is fed and fetched as one buffer, and attends to what it then holds.
 * @param q [B,T,heads*headDim] and k, rotated; v; k and v [B,T,kvHeads*headDim]
 * @returns the name of [B,kvHeads,G*T,headDim]
 */
export function deviceAttention(
  { m, checkpoint }: GraphContext,
  layer: number,
  q: string,
  k: string,
  v: string,
): string {
  const { heads, kvHeads, headDim, layers } = checkpoint.config
  const group = heads / kvHeads
  const held = (kind: 'k' | 'v', value: string): string => {
    const cache = m.input(`cache.${layer}.${kind}`, FLOAT, ['rows', headDim])
    const heads4 = m.node('Reshape', [value, m.integers([0, -1, kvHeads, headDim])])
    const byHead = m.node('Transpose', [heads4], { perm: [0, 2, 1, 3] })
    const rows = m.node('Reshape', [byHead, m.integers([-1, headDim])])
    const present = `present.${layer}.${kind}`
    m.output(present, FLOAT, ['rows', headDim])
    m.node('ScatterElements', [cache, WRITE_ROWS, rows], { axis: 0 }, [present])
    return m.node('Gather', [present, READ_ROWS], { axis: 0 })
  }
  const keys = held('k', k)
  const values = held('v', v)
  const scale = m.constant('kv.scale', FLOAT, [], Float32Array.of(1 / Math.sqrt(headDim)))
  const q5 = m.node('Reshape', [
    m.node('Mul', [q, scale]),
    m.integers([0, -1, kvHeads, group, headDim]),
  ])
  // The small operand is transposed, never the past: keys [B,kvHeads,S,headDim] times [B,kvHeads,headDim,G*T].
  const qt = m.node('Reshape', [
    m.node('Transpose', [q5], { perm: [0, 2, 4, 3, 1] }),
    m.integers([0, kvHeads, headDim, -1]),
  ])
  const scores = m.node('Transpose', [m.node('MatMul', [keys, qt])], { perm: [0, 1, 3, 2] })
  const lowest = m.constant('kv.lowest', FLOAT, [], Float32Array.of(LOWEST))
  const weights = m.node('Softmax', [m.node('Where', [VISIBLE, scores, lowest])], { axis: -1 })
  if (layer === layers - 1) {
    // Whatever overflows earlier reaches the last layer's values: their sum of sizes tells the host, 4 bytes a row.
    m.output('row_size', FLOAT, ['B'])
    m.node('ReduceL1', [v, m.integers([1, 2])], { keepdims: 0 }, ['row_size'])
  }
  return m.node('MatMul', [weights, values])
}

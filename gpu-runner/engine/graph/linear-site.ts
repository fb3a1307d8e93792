import type { GraphContext } from './context.ts'
import { linear } from './linear-weights.ts'
import { ONNX_TYPE } from './onnx-model.ts'
import { timesTransposed } from './times-transposed.ts'

const { FLOAT } = ONNX_TYPE

/**
 * A linear with what adapters do to it: y = c * W(l * x) + B(select(A x) * s), c and l from the row's vectors.
 * @param x [B,T,in]
 * @returns the name of y [B,T,out]
 */
export function linearSite(context: GraphContext, path: string, x: string): string {
  const { m, checkpoint, precision, carries, sizes, zero } = context
  const { in: inner, out } = sizes.get(path)!
  const w = checkpoint.f32(`${path}.weight`, [out, inner])
  let input = x
  if (carries.rich) {
    const table = m.input(`${path}.in_vectors`, FLOAT, ['N', inner])
    input = m.node('Mul', [x, m.node('Gather', [table, 'vector.row'], { axis: 0 })])
  }
  let y = linear(m, precision, path, input, w, out, inner)
  if (carries.rich) {
    const table = m.input(`${path}.out_vectors`, FLOAT, ['N', out])
    y = m.node('Mul', [y, m.node('Gather', [table, 'vector.row'], { axis: 0 })])
  }
  if (!carries.lowRank) return y
  const a = m.input(`${path}.A`, FLOAT, ['R', inner])
  const b = m.input(`${path}.B`, FLOAT, ['R', out])
  const shrunk = timesTransposed(context, x, a)
  const own = m.node('Where', ['low_rank.mask', shrunk, zero])
  const scaled = m.node('Mul', [own, 'low_rank.scale'])
  return m.node('Add', [y, m.node('MatMul', [scaled, b])])
}

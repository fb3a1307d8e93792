import { bandsOf } from '../../checkpoint/read-checkpoint.ts'
import type { GraphContext } from './context.ts'
import { linear } from './linear-weights.ts'
import { ONNX_TYPE } from './onnx-model.ts'
import { PRECISIONS } from './precisions.ts'
import { timesTransposed } from './times-transposed.ts'

const { FLOAT, INT64, BOOL } = ONNX_TYPE

/**
 * Logits of the positions asked for: take [P] holds indices into B * T. Where rows of the head may be replaced, head_rows
 * [P,K] are the logits of all K such rows of the bank; whoever reads them puts each into its place.
 * @param final the last norm's output [tokens,hidden]
 */
export function lmHead(context: GraphContext, final: string) {
  const { m, checkpoint, precision, carries, zero } = context
  const { hidden, vocab } = checkpoint.config
  m.input('take', INT64, ['P'])
  const taken = m.node('Gather', [final, 'take'], { axis: 0 })
  const parts = () => bandsOf(checkpoint, 'lm_head.weight', [vocab, hidden])
  const of = { name: 'lm_head', out: vocab, in: hidden, parts, guarded: true }
  let logits = linear(m, PRECISIONS[precision].head, of, taken)
  if (carries.heads) {
    m.input('lm_head.on', BOOL, [])
    m.input('lm_head.others', FLOAT, ['A', hidden, vocab])
    m.input('lm_head.choice', BOOL, ['A', 'P', 1])
    m.input('lm_head.any', BOOL, ['P', 1])
    const base = logits
    // [A,P,vocab] of every other head in the bank; each position takes its own row's, or the base's.
    const own = (): string => {
      const others = m.node('MatMul', [taken, 'lm_head.others'])
      const chosen = m.node('Where', ['lm_head.choice', others, zero])
      const sum = m.node('ReduceSum', [chosen, m.integers([0])], { keepdims: 0 })
      return m.node('Where', ['lm_head.any', sum, base])
    }
    logits = m.branch('lm_head.on', own, () => base)
  }
  if (carries.heads) {
    const rows = m.input('lm_head.rows', FLOAT, ['K', hidden])
    m.output('head_rows', FLOAT, ['P', 'K'])
    m.node('Identity', [timesTransposed(context, taken, rows)], {}, ['head_rows'])
  }
  m.output('logits', FLOAT, ['P', vocab])
  m.node('Identity', [logits], {}, ['logits'])
}

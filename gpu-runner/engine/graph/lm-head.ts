import type { GraphContext } from './context.ts'
import { linear } from './linear-weights.ts'
import { ONNX_TYPE } from './onnx-model.ts'
import { PRECISIONS } from './precisions.ts'

const { FLOAT, INT64, BOOL } = ONNX_TYPE

/**
 * Logits of the positions asked for: take [P] holds indices into B * T.
 * @param final the last norm's output [tokens,hidden]
 */
export function lmHead({ m, checkpoint, precision, carries, zero }: GraphContext, final: string) {
  const { hidden, vocab } = checkpoint.config
  m.input('take', INT64, ['P'])
  const taken = m.node('Gather', [final, 'take'], { axis: 0 })
  const parts = () => [checkpoint.f32('lm_head.weight', [vocab, hidden])]
  const of = { name: 'lm_head', out: vocab, in: hidden, parts }
  let logits = linear(m, PRECISIONS[precision].head, of, taken)
  if (carries.heads) {
    // [A,P,vocab] of every other head in the bank; each position takes its own row's, or the base's.
    m.input('lm_head.others', FLOAT, ['A', hidden, vocab])
    m.input('lm_head.choice', BOOL, ['A', 'P', 1])
    m.input('lm_head.any', BOOL, ['P', 1])
    const others = m.node('MatMul', [taken, 'lm_head.others'])
    const chosen = m.node('Where', ['lm_head.choice', others, zero])
    const own = m.node('ReduceSum', [chosen, m.integers([0])], { keepdims: 0 })
    logits = m.node('Where', ['lm_head.any', own, logits])
  }
  m.output('logits', FLOAT, ['P', vocab])
  m.node('Identity', [logits], {}, ['logits'])
}

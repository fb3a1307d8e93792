import { bandsOf } from '../../checkpoint/read-checkpoint.ts'
import type { GraphContext } from './context.ts'
import { ONNX_TYPE } from './onnx-model.ts'
import { PRECISIONS } from './precisions.ts'
import { type Blocks, blockWithin, quantizeBands } from './quantise/blocks.ts'

const NAME = 'model.embed_tokens.weight'

/** @returns the name of the embeddings of `ids` [tokens, hidden] */
export function embedding({ m, checkpoint, precision }: GraphContext): string {
  const { vocab, hidden } = checkpoint.config
  const weight = () => bandsOf(checkpoint, NAME, [vocab, hidden])
  const form = PRECISIONS[precision].embedding
  if (form.name === 'floats') {
    m.weight(NAME, ONNX_TYPE.FLOAT, [vocab, hidden], weight)
    return m.node('Gather', [NAME, 'ids'], { axis: 0 })
  }
  const block = blockWithin(hidden, form.block)
  let made: Blocks | undefined
  const quantized = () => (made ??= quantizeBands(weight(), vocab * hidden, form.bits, block))
  const { UINT8, FLOAT } = ONNX_TYPE
  const q = m.weight(`${NAME}.q`, UINT8, [vocab, (hidden * form.bits) / 8], () => quantized().q)
  const scales = m.weight(
    `${NAME}.scales`,
    FLOAT,
    [vocab, hidden / block],
    () => quantized().scales,
  )
  return m.node('GatherBlockQuantized', [q, 'ids', scales], {
    bits: form.bits,
    block_size: block,
    gather_axis: 0,
    quantize_axis: 1,
  })
}

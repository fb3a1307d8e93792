import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import { ONNX_TYPE, type OnnxModel } from './onnx-model.ts'
import { PRECISIONS, type Precision } from './precisions.ts'
import { BLOCK, quantizeBlocksOnce } from './quantise/blocks.ts'
import { transpose } from './transpose.ts'

export type { Precision } from './precisions.ts'
export { transpose } from './transpose.ts'

/** A linear without bias: y = x W^T. */
interface Linear {
  name: string
  /** Name of the graph's value x [..., in]. */
  x: string
  /** [out, in] */
  w: Float32Array
  out: number
  inner: number
}

/** Adds y = x W^T with W [out, in] held at the precision. @returns the name of y */
export function linear(
  model: OnnxModel,
  precision: Precision,
  name: string,
  x: string,
  w: Float32Array,
  out: number,
  inner: number,
): string {
  const { block } = PRECISIONS[precision]
  if (inner % block !== 0)
    throw new GraftError(
      'ERR_ARCHITECTURE_UNSUPPORTED',
      expected(`${name}: input size at ${precision}`, `a multiple of ${block}`, inner),
    )
  return WRITERS[precision](model, { name, x, w, out, inner })
}

const WRITERS: Record<Precision, (model: OnnxModel, linear: Linear) => string> = {
  fp32: writeFloats,
  int8: (model, of) => writeBlocks(model, of, 8),
  int4: (model, of) => writeBlocks(model, of, 4),
}

function writeFloats(model: OnnxModel, { name, x, w, out, inner }: Linear): string {
  const data = transpose(w, out, inner)
  const weight = model.weight(`${name}.weight`, ONNX_TYPE.FLOAT, [inner, out], data)
  return model.node('MatMul', [x, weight])
}

function writeBlocks(model: OnnxModel, { name, x, w, out, inner }: Linear, bits: 4 | 8): string {
  const { q, scales } = quantizeBlocksOnce(w, bits)
  const blocks = inner / BLOCK
  const qName = model.weight(`${name}.q`, ONNX_TYPE.UINT8, [out, blocks, (BLOCK * bits) / 8], q)
  const sName = model.weight(`${name}.scales`, ONNX_TYPE.FLOAT, [out * blocks], scales)
  // accuracy_level 4: activations are quantised per row and block, so a neighbour never changes a row.
  return model.node('MatMulNBits', [x, qName, sName], {
    K: inner,
    N: out,
    bits,
    block_size: BLOCK,
    accuracy_level: 4,
  })
}

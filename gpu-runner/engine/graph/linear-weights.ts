import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import { ONNX_TYPE, type OnnxModel } from './onnx-model.ts'
import { PRECISIONS, type Precision } from './precisions.ts'
import { BLOCK, type Blocks, quantizeBlocks } from './quantise/blocks.ts'

export type { Precision } from './precisions.ts'
export { transpose } from './transpose.ts'

/** The weight of a linear without bias, [out, in]. */
export interface LinearWeight {
  name: string
  out: number
  in: number
  /** Called only where the prepared weights do not hold it yet. */
  weight: () => Float32Array
}

/** Rows [first, first + out) of a weight. */
export interface WeightRows {
  first: number
  out: number
}

/** Adds y = x W^T with W held at the precision. @param x [tokens, in] @returns the name of y [tokens, out] */
export function linear(
  model: OnnxModel,
  precision: Precision,
  of: LinearWeight,
  x: string,
): string {
  return linearPart(model, precision, of, { first: 0, out: of.out }, x)
}

/** The same for some rows of W: they are the same bytes of the file. @returns the name of y [tokens, rows.out] */
export function linearPart(
  model: OnnxModel,
  precision: Precision,
  of: LinearWeight,
  rows: WeightRows,
  x: string,
): string {
  const { block } = PRECISIONS[precision]
  if (of.in % block !== 0)
    throw new GraftError(
      'ERR_ARCHITECTURE_UNSUPPORTED',
      expected(`${of.name}: input size at ${precision}`, `a multiple of ${block}`, of.in),
    )
  return WRITERS[precision](model, of, rows, x)
}

type Writer = (model: OnnxModel, of: LinearWeight, rows: WeightRows, x: string) => string

const WRITERS: Record<Precision, Writer> = {
  fp32: writeFloats,
  int8: (model, of, rows, x) => writeBlocks(model, of, rows, x, 8),
  int4: (model, of, rows, x) => writeBlocks(model, of, rows, x, 4),
}

const suffix = (of: LinearWeight, { first, out }: WeightRows): string =>
  first === 0 && out === of.out ? '' : `.rows_${first}`

function writeFloats(model: OnnxModel, of: LinearWeight, rows: WeightRows, x: string): string {
  const weight = model.weight(
    `${of.name}.weight${suffix(of, rows)}`,
    ONNX_TYPE.FLOAT,
    [rows.out, of.in],
    of.weight,
    { of: `${of.name}.weight`, skip: rows.first * of.in * 4 },
  )
  return model.node('Gemm', [x, weight], { transB: 1 })
}

function writeBlocks(
  model: OnnxModel,
  of: LinearWeight,
  rows: WeightRows,
  x: string,
  bits: 4 | 8,
): string {
  const blocks = of.in / BLOCK
  const bytes = (BLOCK * bits) / 8
  let quantized: Blocks | undefined
  const made = () => (quantized ??= quantizeBlocks(of.weight(), bits))
  const q = model.weight(
    `${of.name}.q${suffix(of, rows)}`,
    ONNX_TYPE.UINT8,
    [rows.out, blocks, bytes],
    () => made().q,
    { of: `${of.name}.q`, skip: rows.first * blocks * bytes },
  )
  const scales = model.weight(
    `${of.name}.scales${suffix(of, rows)}`,
    ONNX_TYPE.FLOAT,
    [rows.out * blocks],
    () => made().scales,
    { of: `${of.name}.scales`, skip: rows.first * blocks * 4 },
  )
  // accuracy_level 4: activations are quantised per row and block, so a neighbour never changes a row.
  return model.node('MatMulNBits', [x, q, scales], {
    K: of.in,
    N: rows.out,
    bits,
    block_size: BLOCK,
    accuracy_level: 4,
  })
}

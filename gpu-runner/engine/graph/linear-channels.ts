import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import { zeroColumn } from './linear-guard.ts'
import { isWhole, once, rowsOf } from './linear-tensor.ts'
import type { LinearWeight, WeightRows } from './linear-weights.ts'
import { ONNX_TYPE, type OnnxModel } from './onnx-model.ts'
import { type Channels, quantizeChannels } from './quantise/channels.ts'

const { FLOAT, UINT8, INT8 } = ONNX_TYPE

/** The code of 0 among the activations' bytes: x86 multiplies unsigned by signed ones. */
const MIDDLE = 128
/** Codes either side of it that are used. */
const TOP = 127
/** Inputs whose products are sure to fit in a sum of 32 bits: 2^31 / (255 * 127). */
const MOST_INPUTS = 66_311

/**
 * Both sides in 8 bits: W by output, x by row. Sums of integers are exact in any order, so a row has the same bits in
 * every batch; what is left is one product in f32 for each output and one for the row's scale.
 *
 *   y = (q_x - 128) q_W^T * s_W / 127 * max|x|,  q_x = round(127 x / max|x|) + 128
 *
 * A row of zeros is divided by 0; whatever integers come of it are multiplied by 0. An infinite value makes its row's
 * outputs infinite or NaN, but a NaN alone is passed over by ReduceMax and lost in a byte: rows of guarded linears are
 * multiplied by zeros too, which is NaN wherever a value is not finite.
 */
export function writeChannels(m: OnnxModel, of: LinearWeight, rows: WeightRows, x: string): string {
  if (of.in > MOST_INPUTS)
    throw new GraftError(
      'ERR_ARCHITECTURE_UNSUPPORTED',
      expected(`${of.name}: input size for channels`, `at most ${MOST_INPUTS}`, of.in),
    )
  const made = once<Channels>(() => quantizeChannels(of.parts(), of))
  const whole = m.weight(`${of.name}.channels`, INT8, [of.in, of.out], () => made().q)
  const q = isWhole(of, rows) ? whole : columns(m, whole, rows)
  const scales = rowsOf(m, of, rows, 'channel_scales', FLOAT, [rows.out], () => made().scales)
  const size = rowSize(m, of, x)
  const step = m.constant('w8a8.step', FLOAT, [], new Float32Array([1 / TOP]))
  const middle = m.constant('w8a8.middle', UINT8, [], new Uint8Array([MIDDLE]))
  const bytes = m.node('QuantizeLinear', [m.node('Div', [x, size]), step, middle])
  const product = m.node('MatMulIntegerToFloat', [bytes, q, step, scales, middle])
  return m.node('Mul', [product, size])
}

/** Outputs lie innermost, so some of them are no range of the file: onnxruntime cuts them out once, when it loads. */
const columns = (m: OnnxModel, whole: string, { first, out }: WeightRows): string =>
  m.node('Slice', [whole, m.integers([first]), m.integers([first + out]), m.integers([1])])

/** max|x| of each row, [tokens, 1]; NaN where a guarded row holds what is not finite. */
function rowSize(m: OnnxModel, { in: inner, guarded }: LinearWeight, x: string): string {
  const most = m.node('ReduceMax', [m.node('Abs', [x]), m.integers([-1])], { keepdims: 1 })
  if (!guarded) return most
  // Of no rows onnxruntime's ReduceMax gives the shape that it was given.
  const column = m.node('Reshape', [most, m.integers([0, 1])])
  return m.node('Gemm', [x, zeroColumn(m, inner), column])
}

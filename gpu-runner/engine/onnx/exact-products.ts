import { ONNX_TYPE, OnnxModel } from '../graph/onnx-model.ts'
import { MemoryWeights } from '../graph/weight-file.ts'
import { ort } from './ort.ts'

/**
 * Session settings under which products of unsigned by signed bytes are exact. x86 without VNNI adds them in pairs of 16
 * bits, which saturate; onnxruntime then has slower products that do not, and takes them only when told to. Processors
 * that multiply exactly as they are would lose speed by it, so one product of largest bytes decides.
 */
export const exactProducts = (): Promise<Record<string, string>> => (settings ??= find())

let settings: Promise<Record<string, string>> | undefined

const INPUTS = 64
const OUTPUTS = 16
const [LARGEST, WEIGHT] = [255, 127]

async function find(): Promise<Record<string, string>> {
  const { UINT8, INT8, FLOAT } = ONNX_TYPE
  const weights = new MemoryWeights()
  const m = new OnnxModel(weights)
  m.input('x', UINT8, [1, INPUTS])
  const w = m.constant('w', INT8, [INPUTS, OUTPUTS], new Int8Array(INPUTS * OUTPUTS).fill(WEIGHT))
  const one = m.constant('one', FLOAT, [], new Float32Array([1]))
  m.output('y', FLOAT, [1, OUTPUTS])
  m.node('MatMulIntegerToFloat', ['x', w, one, one], {}, ['y'])
  const session = await ort.InferenceSession.create(m.finish(), { logSeverityLevel: 3 })
  const x = new ort.Tensor('uint8', new Uint8Array(INPUTS).fill(LARGEST), [1, INPUTS])
  const { y } = await session.run({ x })
  await session.release()
  const exact = (y!.data as Float32Array).every((sum) => sum === INPUTS * LARGEST * WEIGHT)
  return exact ? {} : { x64quantprecision: '1' }
}

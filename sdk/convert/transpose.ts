import { DTYPES, isDtype } from '@graft/sdk/format/dtypes.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import { derivedTensor, readTensor, type TensorSource } from '@graft/sdk/format/tensor-source.ts'

/** The element types that bytes are moved as: what they mean plays no part. */
const UNITS = { 8: Uint8Array, 16: Uint16Array, 32: Uint32Array, 64: BigUint64Array } as const

/** [columns, rows] of a matrix [rows, columns]; exact for every dtype of whole bytes. @throws ERR_TENSOR_SHAPE */
export function transposed(tensor: TensorSource): TensorSource {
  const [rows, columns, ...rest] = tensor.shape
  const bits = isDtype(tensor.dtype) ? DTYPES[tensor.dtype].bits : 0
  const Unit = UNITS[bits as keyof typeof UNITS]
  if (rows === undefined || columns === undefined || rest.length > 0 || Unit === undefined)
    throw new GraftError(
      'ERR_TENSOR_SHAPE',
      expected(
        'a tensor to transpose',
        'a matrix of whole bytes',
        `${tensor.dtype} [${tensor.shape}]`,
      ),
    )
  return derivedTensor(tensor.dtype, [columns, rows], tensor.data.size, async () => {
    const { data } = await readTensor(tensor)
    // A copy starts at an aligned offset, a view of a file may not.
    const source = data.byteOffset % Unit.BYTES_PER_ELEMENT === 0 ? data : data.slice()
    const from = new Unit(source.buffer as ArrayBuffer, source.byteOffset, rows * columns)
    const to = new Unit(rows * columns)
    for (let r = 0; r < rows; r++)
      for (let c = 0; c < columns; c++) to[c * rows + r] = from[r * columns + c]!
    return new Uint8Array(to.buffer)
  })
}

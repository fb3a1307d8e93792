import { DTYPES, isDtype } from '@graft/sdk/format/dtypes.ts'
import { derivedTensor, readTensor, type TensorSource } from '@graft/sdk/format/tensor-source.ts'

const elementBytes = ({ dtype }: TensorSource): number =>
  isDtype(dtype) && DTYPES[dtype].bits % 8 === 0 ? DTYPES[dtype].bits / 8 : 0

/** Whether a square matrix holds zero bytes everywhere but on its diagonal. */
export async function isDiagonal(tensor: TensorSource): Promise<boolean> {
  const [rows = 0, columns, ...rest] = tensor.shape
  const element = elementBytes(tensor)
  if (rows !== columns || rest.length > 0 || element === 0) return false
  const { data } = await readTensor(tensor)
  const period = (rows + 1) * element
  for (let i = 0; i < data.length; i++) if (data[i] !== 0 && i % period >= element) return false
  return true
}

/** The diagonal [n] of a matrix [n, n]. */
export function diagonalOf(tensor: TensorSource): TensorSource {
  const [rows = 0] = tensor.shape
  const element = elementBytes(tensor)
  return derivedTensor(tensor.dtype, [rows], rows * element, async () => {
    const { data } = await readTensor(tensor)
    const out = new Uint8Array(rows * element)
    for (let i = 0; i < rows; i++) {
      const from = i * (rows + 1) * element
      out.set(data.subarray(from, from + element), i * element)
    }
    return out
  })
}

/** The matrix [n, n] of a diagonal [n], zero elsewhere. */
export function diagonalMatrix(tensor: TensorSource): TensorSource {
  const [rows = 0] = tensor.shape
  const element = elementBytes(tensor)
  return derivedTensor(tensor.dtype, [rows, rows], rows * rows * element, async () => {
    const { data } = await readTensor(tensor)
    const out = new Uint8Array(rows * rows * element)
    for (let i = 0; i < rows; i++)
      out.set(data.subarray(i * element, (i + 1) * element), i * (rows + 1) * element)
    return out
  })
}

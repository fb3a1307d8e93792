import { derivedTensor, readTensor, type TensorSource } from '@graft/sdk/format/tensor-source.ts'

/** Row i is row order[i] of a tensor [rows, ...]; `order` names each row once. */
export function permuteRows(tensor: TensorSource, order: readonly number[]): TensorSource {
  return derivedTensor(tensor.dtype, tensor.shape, tensor.data.size, async () => {
    const { data: source } = await readTensor(tensor)
    const bytes = source.length / order.length
    const data = new Uint8Array(source.length)
    for (const [to, from] of order.entries())
      data.set(source.subarray(from * bytes, (from + 1) * bytes), to * bytes)
    return data
  })
}

/** The order that undoes another. */
export function inverseOrder(order: readonly number[]): number[] {
  const inverse = new Array<number>(order.length)
  for (const [to, from] of order.entries()) inverse[from] = to
  return inverse
}

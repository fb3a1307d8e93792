import { readAll } from './byte-source.ts'
import { isWeightDtype } from './dtypes.ts'
import { expected, GraftError } from './errors.ts'
import { INDEX_DTYPES, isIndexDtype, toNumbers } from './indices.ts'
import type { Operation } from './operations.ts'
import { slotsOf } from './slots.ts'
import type { TensorSource } from './tensor-source.ts'

/**
 * The tensor of every slot is of the shape that the operation says and of a dtype for weights, or, where it holds indices,
 * of integers that name each place of dW once. Reads values of indices alone.
 * @throws ERR_TENSOR_SHAPE, ERR_SAFETENSORS_INVALID for a dtype, ERR_MANIFEST_INVALID for indices
 */
export async function checkSlots(
  op: Operation,
  tensors: ReadonlyMap<string, TensorSource>,
): Promise<void> {
  for (const { slot, tensor: name, shape } of slotsOf(op)) {
    const tensor = tensors.get(name)
    if (tensor?.shape.join() !== shape.join())
      throw new GraftError(
        'ERR_TENSOR_SHAPE',
        expected(`${op.op} at ${op.site}: ${slot}`, `[${shape}]`, tensor?.shape ?? []),
      )
    const indexed = op.op === 'dense' && op.form === 'spectrum' && slot === 'indices'
    if (!indexed && !isWeightDtype(tensor.dtype))
      throw new GraftError(
        'ERR_SAFETENSORS_INVALID',
        expected(`dtype of weights, tensor ${name}`, 'F32, F16, BF16 or F64', tensor.dtype),
      )
    if (indexed) await checkIndices(name, tensor, [op.out, op.in])
  }
}

/** @param bounds rows and columns of the matrix; tensor [2, count] */
async function checkIndices(
  name: string,
  { dtype, data }: TensorSource,
  bounds: readonly [number, number],
): Promise<void> {
  if (!isIndexDtype(dtype))
    throw new GraftError(
      'ERR_SAFETENSORS_INVALID',
      expected(`dtype of indices, tensor ${name}`, INDEX_DTYPES.join(' or '), dtype),
    )
  const indices = toNumbers(dtype, await readAll(data))
  const count = indices.length / 2
  const seen = new Set<number>()
  for (let k = 0; k < count; k++) {
    const [row, column] = [indices[k]!, indices[count + k]!]
    const place = row * bounds[1] + column
    if (row < 0 || row >= bounds[0] || column < 0 || column >= bounds[1] || seen.has(place))
      throw new GraftError(
        'ERR_MANIFEST_INVALID',
        expected(`tensor ${name}: place ${k}`, `another one inside [${bounds}]`, [row, column]),
      )
    seen.add(place)
  }
}

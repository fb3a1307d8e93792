import { DTYPES, isDtype, toFloat32 } from '@graft/sdk/format/dtypes.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import { readTensor, type TensorSource } from '@graft/sdk/format/tensor-source.ts'

/** How integers and f64 of a safetensors are read; the other floats go through toFloat32. */
const READ: Record<string, (view: DataView) => number> = {
  F64: (view) => view.getFloat64(0, true),
  I64: (view) => Number(view.getBigInt64(0, true)),
  I32: (view) => view.getInt32(0, true),
  I16: (view) => view.getInt16(0, true),
  U8: (view) => view.getUint8(0),
}

/**
 * The number that a `.alpha` tensor holds, exactly: sd-scripts saves a float scalar, diffusers' converter an int64.
 * @throws ERR_TENSOR_SHAPE, ERR_WEIGHTS_NON_FINITE
 */
export async function readAlpha(key: string, source: TensorSource): Promise<number> {
  const elements = source.shape.reduce((n, dim) => n * dim, 1)
  const { dtype } = source
  const readable = isDtype(dtype) && (DTYPES[dtype].numeric || Object.hasOwn(READ, dtype))
  if (elements !== 1 || !readable)
    throw new GraftError(
      'ERR_TENSOR_SHAPE',
      expected(`tensor ${key}`, 'one number', `${dtype} [${source.shape}]`),
    )
  const { data } = await readTensor(source)
  const read = READ[dtype]
  const value = read
    ? read(new DataView(data.buffer, data.byteOffset, data.byteLength))
    : toFloat32(dtype, data)[0]!
  if (!Number.isFinite(value))
    throw new GraftError('ERR_WEIGHTS_NON_FINITE', expected(`tensor ${key}`, 'finite', `${value}`))
  return value
}

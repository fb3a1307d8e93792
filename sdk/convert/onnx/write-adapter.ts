import type { ByteSource } from '@graft/sdk/format/byte-source.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import type { TensorSource } from '@graft/sdk/format/tensor-source.ts'
import { typeOf } from './data-types.ts'
import { createFlatWriter } from './flatbuffer-writer.ts'
import { ORT_FORMAT_VERSION, ORT_IDENTIFIER } from './read-adapter.ts'

/** FlatBuffers' offsets are signed, of 32 bits. */
const MAX_BYTES = 2 ** 31 - 1

/**
 * An adapter as ONNX Runtime's own AdapterFormat writes it, byte for byte; tensors in the order given.
 * @throws ERR_METHOD_UNSUPPORTED for a dtype that it has no number for, or more than 2 GB
 */
export function ortAdapter(
  tensors: ReadonlyMap<string, TensorSource>,
  versions: { adapter: number; model: number },
): ByteSource {
  const writer = createFlatWriter()
  const places = [...tensors].map(([name, { dtype, shape, data }]) => {
    const type = typeOf(dtype)
    if (type === null)
      throw new GraftError(
        'ERR_METHOD_UNSUPPORTED',
        expected(`.onnx_adapter: ${name}: dtype`, 'F32, F16, BF16 or F64', dtype),
      )
    const fields = [writer.text(name), writer.int64s(shape)] as const
    const raw = writer.bytes(data)
    return writer.table([
      { place: fields[0] },
      { place: fields[1] },
      { int32: type },
      { place: raw },
    ])
  })
  const parameters = writer.tables(places)
  const root = writer.table([
    { int32: ORT_FORMAT_VERSION },
    { int32: versions.adapter },
    { int32: versions.model },
    { place: parameters },
  ])
  const file = writer.finish(root, ORT_IDENTIFIER)
  if (file.size <= MAX_BYTES) return file
  throw new GraftError(
    'ERR_METHOD_UNSUPPORTED',
    expected('.onnx_adapter', `at most ${MAX_BYTES} bytes`, file.size),
  )
}

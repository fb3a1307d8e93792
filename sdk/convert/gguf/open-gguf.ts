import { type ByteSource, readRange, sliceOf } from '@graft/sdk/format/byte-source.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import { derivedTensor, readTensor, type TensorSource } from '@graft/sdk/format/tensor-source.ts'
import { invalid, NeedsBytes } from './cursor.ts'
import { isAdapterType } from './ggml-types.ts'
import { dequantiseQ8 } from './q8-0.ts'
import { type GgufHeader, type GgufTensor, padded, parseGgufHeader } from './read-header.ts'

/** Vocabularies take megabytes, adapters a few kilobytes; caps what a forged file can make us hold. */
export const MAX_GGUF_HEADER_BYTES = 16 * 1024 * 1024
/** An adapter's header fits into the first read. */
const FIRST_READ_BYTES = 64 * 1024

/** Reads the header only, in growing steps, for nothing in a GGUF tells how long it is. @throws ERR_CONFIG_INVALID */
export async function readGgufHeader(
  source: ByteSource,
): Promise<{ header: GgufHeader; bytes: Uint8Array }> {
  for (let size = FIRST_READ_BYTES; ; ) {
    const bytes = await readRange(source, 0, Math.min(size, source.size))
    try {
      const header = parseGgufHeader(bytes, source.size)
      return { header, bytes: bytes.subarray(0, header.dataStart) }
    } catch (error) {
      if (!(error instanceof NeedsBytes)) throw error
      if (error.upTo > MAX_GGUF_HEADER_BYTES)
        throw invalid(
          `the header goes on past ${MAX_GGUF_HEADER_BYTES} bytes, as no adapter's does; give the adapter, not the model`,
        )
      size = Math.max(2 * size, error.upTo)
    }
  }
}

/**
 * A tensor of the file as safetensors would have it; Q8_0 as the F32 values that it stands for.
 * @throws ERR_METHOD_UNSUPPORTED for a type that no adapter is written in
 */
export function tensorOf(
  source: ByteSource,
  { dataStart }: GgufHeader,
  { name, type, shape, begin, end }: GgufTensor,
): TensorSource {
  if (!isAdapterType(type.name))
    throw new GraftError(
      'ERR_METHOD_UNSUPPORTED',
      `${expected(`tensor ${name}: type`, 'F32, F16, BF16 or Q8_0', type.name)}; convert the adapter again with --outtype f32`,
    )
  const data = sliceOf(source, dataStart + begin, dataStart + end)
  if (type.name !== 'Q8_0') return { dtype: type.name, shape, data }
  const bytes = shape.reduce((n, dim) => n * dim, 4)
  return derivedTensor('F32', shape, bytes, async () => {
    const blocks = await readTensor({ dtype: type.name, shape, data })
    return new Uint8Array(dequantiseQ8(blocks.data).buffer)
  })
}

/**
 * Padding holds zeros, as the specification says: what else stood there would not come back, and is no part of the adapter.
 * @throws ERR_CONFIG_INVALID
 */
export async function checkPadding(source: ByteSource, header: GgufHeader): Promise<void> {
  const { tensors, alignment, dataStart } = header
  for (const { name, end } of tensors) {
    const from = dataStart + end
    const to = Math.min(dataStart + padded(end, alignment), source.size)
    if (from >= to) continue
    const bytes = await readRange(source, from, to)
    if (bytes.some((byte) => byte !== 0))
      throw invalid(`the padding after tensor ${JSON.stringify(name)} must be zeros`)
  }
}

import { type ByteSource, readRange, sliceOf } from './byte-source.ts'
import { expected, GraftError } from './errors.ts'
import { joinSources } from './join-sources.ts'
import {
  layoutSafetensors,
  MAX_SAFETENSORS_HEADER_BYTES,
  parseSafetensorsHeader,
} from './safetensors.ts'
import type { TensorSource } from './tensor-source.ts'

export interface OpenedSafetensors {
  /** In the order of their bytes. */
  tensors: Map<string, TensorSource>
  metadata: Record<string, string>
  /** The first 8 + N bytes. */
  header: Uint8Array
}

/** Reads the header only. @throws ERR_SAFETENSORS_INVALID */
export async function openSafetensors(source: ByteSource): Promise<OpenedSafetensors> {
  // Short files are given whole to the parser, which tells pointers and pickles from broken headers.
  const start = await readRange(source, 0, Math.min(source.size, 64))
  const length =
    start.length < 8 ? 0n : new DataView(start.buffer, start.byteOffset).getBigUint64(0, true)
  const header =
    length <= BigInt(MAX_SAFETENSORS_HEADER_BYTES)
      ? await readRange(source, 0, Math.min(source.size, Math.max(64, 8 + Number(length))))
      : start
  const { tensors, metadata, dataStart } = parseSafetensorsHeader(header, source.size)
  return {
    header: header.subarray(0, dataStart),
    metadata,
    tensors: new Map(
      tensors.map(({ name, dtype, shape, begin, end }) => [
        name,
        { dtype, shape, data: sliceOf(source, dataStart + begin, dataStart + end) },
      ]),
    ),
  }
}

/**
 * A safetensors file that is never held whole: its tensors are read as its bytes are asked for.
 * @param given exact header bytes, or the order of the metadata, of a file whose layout is not the reference writer's
 * @throws ERR_SAFETENSORS_INVALID when a tensor does not fit its dtype and shape, or the header
 */
export function safetensorsSource(
  tensors: ReadonlyMap<string, TensorSource>,
  metadata: Readonly<Record<string, string>> = {},
  given: { header?: Uint8Array; metadataOrder?: readonly string[] } = {},
): ByteSource {
  const sizes = [...tensors].map(([name, { dtype, shape, data }]) => ({
    name,
    dtype,
    shape,
    bytes: data.size,
  }))
  const layout = given.header
    ? givenLayout(given.header, tensors)
    : layoutSafetensors(sizes, metadata, given.metadataOrder)
  return joinSources([layout.header, ...layout.order.map((name) => tensors.get(name)!.data)])
}

function givenLayout(header: Uint8Array, tensors: ReadonlyMap<string, TensorSource>) {
  const total = [...tensors.values()].reduce((sum, { data }) => sum + data.size, header.length)
  const parsed = parseSafetensorsHeader(header, total)
  for (const { name, dtype, shape } of parsed.tensors) {
    const tensor = tensors.get(name)
    if (tensor?.dtype !== dtype || tensor.shape.join() !== shape.join())
      throw new GraftError(
        'ERR_SAFETENSORS_INVALID',
        expected(`header: ${name}`, `${dtype} [${shape}] among the tensors`, tensor?.shape),
      )
  }
  return { header, order: parsed.tensors.map(({ name }) => name) }
}

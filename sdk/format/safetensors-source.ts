import { type ByteSource, heldBytes, readRange, sliceOf } from './byte-source.ts'
import { expected, GraftError } from './errors.ts'
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
 * @param header exact header bytes of a file whose layout is not the reference writer's
 * @throws ERR_SAFETENSORS_INVALID when a tensor does not fit its dtype and shape, or the header
 */
export function safetensorsSource(
  tensors: ReadonlyMap<string, TensorSource>,
  metadata: Readonly<Record<string, string>> = {},
  header?: Uint8Array,
): ByteSource {
  const sizes = [...tensors].map(([name, { dtype, shape, data }]) => ({
    name,
    dtype,
    shape,
    bytes: data.size,
  }))
  const layout = header ? givenLayout(header, tensors) : layoutSafetensors(sizes, metadata)
  const parts: { begin: number; data: ByteSource }[] = []
  let at = layout.header.length
  for (const name of layout.order) {
    const { data } = tensors.get(name)!
    parts.push({ begin: at, data })
    at += data.size
  }
  return joined(layout.header, parts, at)
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

/** A header and parts that follow each other without a gap; `parts` begin where the one before ends. */
function joined(
  header: Uint8Array,
  parts: readonly { begin: number; data: ByteSource }[],
  size: number,
): ByteSource {
  const partAt = (offset: number): number => {
    let [low, high] = [0, parts.length]
    while (low < high) {
      const middle = (low + high) >> 1
      if (parts[middle]!.begin + parts[middle]!.data.size > offset) high = middle
      else low = middle + 1
    }
    return low
  }
  return {
    size,
    parts: [heldBytes(header), ...parts.map(({ data }) => data)],
    async read(begin, end) {
      const out = new Uint8Array(Math.max(0, Math.min(end, size) - begin))
      if (begin < header.length) out.set(header.subarray(begin, end))
      let at = Math.max(begin, header.length)
      for (let i = partAt(at); at < Math.min(end, size); i++) {
        const { begin: start, data } = parts[i]!
        const to = Math.min(end, start + data.size)
        if (to > at) out.set(await readRange(data, at - start, to - start), at - begin)
        at = Math.max(at, to)
      }
      return out
    },
  }
}

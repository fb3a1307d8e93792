import { decodeBase64 } from '@graft/sdk/format/base64url.ts'
import type { ByteSource } from '@graft/sdk/format/byte-source.ts'
import { toFloat32 } from '@graft/sdk/format/dtypes.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import { joinSources } from '@graft/sdk/format/join-sources.ts'
import { derivedTensor, readTensor, type TensorSource } from '@graft/sdk/format/tensor-source.ts'
import type { OpenAdapter } from '../exporter.ts'
import { restoreTensors } from '../restore.ts'
import { putStrayBlocks, quantiseQ8, strayKey } from './q8-0.ts'
import { type GgufTensor, padded, parseGgufHeader } from './read-header.ts'

const damaged = (where: string, what: string, got: unknown): GraftError =>
  new GraftError('ERR_MANIFEST_INVALID', expected(where, what, got))

/** A tensor's bytes as the file's header says that they are stored. */
function stored(
  { name, type, shape, begin, end }: GgufTensor,
  restored: ReadonlyMap<string, TensorSource>,
): ByteSource {
  const tensor = restored.get(name)
  const quantised = type.name === 'Q8_0'
  if (tensor?.dtype !== (quantised ? 'F32' : type.name) || tensor.shape.join() !== shape.join())
    throw damaged(
      `origin.header: ${name}`,
      `${type.name} [${shape}] among the tensors`,
      tensor?.shape,
    )
  if (!quantised) return tensor.data
  const stray = restored.get(strayKey(name))
  return derivedTensor(type.name, shape, end - begin, async () => {
    const { dtype, data } = await readTensor(tensor)
    const blocks = quantiseQ8(toFloat32(dtype, data))
    if (stray !== undefined && !putStrayBlocks(blocks, (await readTensor(stray)).data))
      throw damaged(`origin.literals: ${strayKey(name)}`, 'blocks of its tensor', stray.shape)
    return blocks
  }).data
}

/** The author's file: its own bytes before the data, then each tensor in its place. @throws ERR_MANIFEST_INVALID */
export function rebuildGguf({ manifest: { origin }, tensors }: OpenAdapter): ByteSource {
  if (origin?.header === undefined)
    throw new GraftError('ERR_MANIFEST_INVALID', 'origin.header is absent: no GGUF without it')
  const header = decodeBase64(origin.header)
  const restored = restoreTensors(origin, tensors)
  const parsed = parseGgufHeader(header, null)
  const parts: (ByteSource | Uint8Array)[] = [header]
  for (const tensor of parsed.tensors) {
    parts.push(stored(tensor, restored))
    const last = tensor === parsed.tensors.at(-1)
    if (!(last && origin.metadata['end'] === 'unpadded'))
      parts.push(new Uint8Array(padded(tensor.end, parsed.alignment) - tensor.end))
  }
  return joinSources(parts)
}

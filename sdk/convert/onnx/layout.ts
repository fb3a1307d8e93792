import { decodeBase64, encodeBase64 } from '@graft/sdk/format/base64url.ts'
import { type ByteSource, readRange, sameBytes } from '@graft/sdk/format/byte-source.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import { joinSources } from '@graft/sdk/format/join-sources.ts'
import type { Origin } from '@graft/sdk/format/manifest.ts'
import type { TensorSource } from '@graft/sdk/format/tensor-source.ts'
import type { OrtAdapter } from './read-adapter.ts'
import { ortAdapter } from './write-adapter.ts'

type Layout = Pick<Origin, 'metadata' | 'header'>

const damaged = (what: string, got: unknown): GraftError =>
  new GraftError('ERR_MANIFEST_INVALID', expected('origin.metadata', what, got))

/**
 * What brings the file back beside its tensors: two version numbers where ONNX Runtime's own writer laid it out; else all
 * of its bytes but the tensors', and where these stood (`data`: begin and size of each, in the order of the file).
 */
export async function layoutOf(
  source: ByteSource,
  { adapterVersion, modelVersion, parameters }: OrtAdapter,
  tensors: ReadonlyMap<string, TensorSource>,
): Promise<Layout> {
  const metadata = {
    adapter_version: String(adapterVersion),
    model_version: String(modelVersion),
  }
  const again = ortAdapter(tensors, { adapter: adapterVersion, model: modelVersion })
  if (await sameBytes(again, source)) return { metadata }
  const placed = [...parameters].sort((a, b) => a.begin - b.begin)
  const parts: Uint8Array[] = []
  let at = 0
  for (const { begin, end } of placed) {
    parts.push(await readRange(source, at, begin))
    at = end
  }
  parts.push(await readRange(source, at, source.size))
  const data = placed.map(({ begin, end }) => `${begin}+${end - begin}`).join(',')
  const bytes = joinSources(parts)
  return {
    metadata: { ...metadata, data },
    header: encodeBase64(await bytes.read(0, bytes.size)),
  }
}

/** The inverse. @param tensors by name, in the order of the file's list @throws ERR_MANIFEST_INVALID */
export function fileOf(
  { metadata, header }: Layout,
  tensors: ReadonlyMap<string, TensorSource>,
): ByteSource {
  const adapter = Number(metadata['adapter_version'])
  const model = Number(metadata['model_version'])
  if (!Number.isInteger(adapter) || !Number.isInteger(model))
    throw damaged('with adapter_version and model_version', metadata)
  if (header === undefined) return ortAdapter(tensors, { adapter, model })
  const rest = decodeBase64(header)
  const parts: (ByteSource | Uint8Array)[] = []
  let at = 0
  let used = 0
  for (const [i, tensor] of [...tensors.values()].entries()) {
    const [begin = Number.NaN, size] = metadata['data']?.split(',')[i]?.split('+').map(Number) ?? []
    const gap = begin - at
    if (!(gap >= 0) || used + gap > rest.length || size !== tensor.data.size)
      throw damaged('with the place and size of every tensor in "data"', metadata['data'])
    parts.push(rest.subarray(used, used + gap), tensor.data)
    used += gap
    at = begin + size
  }
  return joinSources([...parts, rest.subarray(used)])
}

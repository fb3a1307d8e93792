import { type ByteSource, heldBytes, readAll } from '@graft/sdk/format/byte-source.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import type { Manifest, Origin } from '@graft/sdk/format/manifest.ts'
import { openSafetensors } from '@graft/sdk/format/safetensors-source.ts'
import type { ExportContext, Exported, OpenAdapter } from './exporter.ts'
import { EXPORTERS } from './formats.ts'

/** @throws ERR_SAFETENSORS_INVALID */
export async function openAdapter(
  manifest: Manifest,
  safetensors: ByteSource,
): Promise<OpenAdapter> {
  return { manifest, tensors: (await openSafetensors(safetensors)).tensors }
}

/**
 * An adapter as files of a tool: the author's own bytes where it came from that tool, else files of the same operations.
 * @throws ERR_METHOD_UNSUPPORTED for a tool or an operation that has no way out
 */
export async function exportTo(
  format: Origin['format'],
  adapter: OpenAdapter,
  context: ExportContext = {},
): Promise<Exported> {
  const exporter = EXPORTERS[format]
  if (exporter === undefined)
    throw new GraftError(
      'ERR_METHOD_UNSUPPORTED',
      `there is no export to ${format}; there is to ${Object.keys(EXPORTERS).join(', ')}`,
    )
  if (adapter.manifest.origin?.format === format)
    return { files: await exporter.rebuild(adapter), losses: [], notes: [] }
  return exporter.export(adapter, context)
}

/** The author's own files, byte for byte, in memory. @throws as exportTo */
export async function exportAdapter(adapter: {
  manifest: Manifest
  safetensors: Uint8Array
}): Promise<Map<string, Uint8Array>> {
  const { manifest, safetensors } = adapter
  if (manifest.origin === null)
    throw new GraftError(
      'ERR_METHOD_UNSUPPORTED',
      'the adapter keeps no origin, so there are no files of an author to give back; name a format',
    )
  const open = await openAdapter(manifest, heldBytes(safetensors))
  const { files } = await exportTo(manifest.origin.format, open)
  const read = [...files].map(async ([path, source]) => [path, await readAll(source)] as const)
  return new Map(await Promise.all(read))
}

import { exportTo, openAdapter } from '@graft/convert/export-adapter.ts'
import type { ExportContext } from '@graft/convert/exporter.ts'
import { heldBytes, readAll } from '@graft/sdk/format/byte-source.ts'
import type { Manifest } from '@graft/sdk/format/manifest.ts'

/** PEFT's fixtures (test/sdk/convert/fixtures) that AdapterHub can hold; the library has loaded fixtures/exported. */
export const OF_PEFT = ['peft-lora', 'peft-rslora', 'peft-lora-patterns', 'peft-lora-f16'] as const

/** The library's own, written from the operations alone. */
export const OF_ADAPTERHUB = [
  'llama-lora',
  'llama-lora-left-out',
  'llama-ia3',
  'llama-prefix',
  'llama-mam',
  'llama-union',
  'plain-dora',
  'qwen2-lora',
  'gpt2-seq-bn',
  'bert-post-add',
  'roberta-par-bn',
] as const

/** An adapter as files of AdapterHub, from its operations alone. */
export async function toAdapterHub(
  { manifest, safetensors }: { manifest: Manifest; safetensors: Uint8Array },
  context: ExportContext,
) {
  const open = await openAdapter({ ...manifest, origin: null }, heldBytes(safetensors))
  const { files, losses, notes } = await exportTo('adapters', open, context)
  const read = [...files].map(async ([path, source]) => [path, await readAll(source)] as const)
  return { files: new Map(await Promise.all(read)), losses, notes }
}

import { exportTo, openAdapter } from '@graft/convert/export-adapter.ts'
import type { ExportContext } from '@graft/convert/exporter.ts'
import { heldBytes, readAll } from '@graft/sdk/format/byte-source.ts'
import type { Manifest } from '@graft/sdk/format/manifest.ts'

/** PEFT's fixtures (test/sdk/convert/fixtures) that MLX can hold; mlx-lm has loaded what is in fixtures/exported. */
export const TO_MLX = [
  'peft-lora',
  'peft-rslora',
  'peft-lora-patterns',
  'peft-lora-f16',
  'peft-dora',
  'peft-ln',
] as const

/** mlx-lm's own saves, written again from their operations alone; mlx-lm has loaded files of fixtures/exported.json's digests. */
export const OF_MLX = [
  'llama-trained',
  'llama-trained-dora',
  'llama-trained-full',
  'llama-paths',
  'llama-bf16',
  'mixtral-switch',
  'gpt2-lora',
] as const

/** An adapter as files of MLX, read into memory. */
export async function toMlx(
  { manifest, safetensors }: { manifest: Manifest; safetensors: Uint8Array },
  context: ExportContext,
) {
  const open = await openAdapter(manifest, heldBytes(safetensors))
  const { files, losses, notes } = await exportTo('mlx', open, context)
  const read = [...files].map(async ([path, source]) => [path, await readAll(source)] as const)
  return { files: new Map(await Promise.all(read)), losses, notes }
}

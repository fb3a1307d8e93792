import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { exportTo, openAdapter } from '@graft/convert/export-adapter.ts'
import { importAdapter } from '@graft/convert/import-adapter.ts'
import { heldBytes, readAll } from '@graft/sdk/format/byte-source.ts'
import type { Manifest } from '@graft/sdk/format/manifest.ts'
import { baseOf } from '../fixtures.ts'

export const FILES = [
  'peft-lora',
  'peft-rslora',
  'peft-lora-f16',
  'peft-lora-gpt2',
  'versions',
  'other-layout',
]

export const adapterOf = (name: string): Uint8Array =>
  new Uint8Array(readFileSync(join(import.meta.dirname, 'fixtures', `${name}.onnx_adapter`)))

export const importOnnx = async (name: string, bytes: Uint8Array = adapterOf(name)) =>
  importAdapter({
    files: new Map([['lora.onnx_adapter', bytes]]),
    base: await baseOf(name),
    name: '@acme/fixture',
    version: '1.0.0',
  })

export async function exportOnnx(imported: { manifest: Manifest; safetensors: Uint8Array }) {
  const adapter = await openAdapter(imported.manifest, heldBytes(imported.safetensors))
  const exported = await exportTo('onnx', adapter)
  const [file] = exported.files.values()
  return { ...exported, bytes: await readAll(file!) }
}

/*
 * Writes what oracle.py judges with ONNX Runtime:
 *
 *     node oracle.ts out && python oracle.py out
 *
 * <name>.onnx_adapter: exported from the PEFT folder of that name. again/<name>.onnx_adapter: a file of make.py, imported,
 * and written from the canonical tensors alone.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { importFixture } from '../fixtures.ts'
import { exportOnnx, FILES, importOnnx } from './helpers.ts'

const [, , folder] = process.argv
if (folder === undefined) throw new Error('give a folder to write to')
mkdirSync(join(folder, 'again'), { recursive: true })
for (const name of ['peft-lora', 'peft-rslora', 'peft-lora-patterns', 'peft-lora-gpt2']) {
  const { bytes, losses } = await exportOnnx(await importFixture(name))
  writeFileSync(join(folder, `${name}.onnx_adapter`), bytes)
  console.log(`${name}: ${bytes.length} bytes, ${losses.length} losses`)
}
for (const name of FILES) {
  const { bytes } = await exportOnnx(await importOnnx(name))
  writeFileSync(join(folder, 'again', `${name}.onnx_adapter`), bytes)
}

import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { importAdapter } from '@graft/convert/import-adapter.ts'
import type { describeCheckpoint } from '@graft/runner/checkpoint/describe-checkpoint.ts'
import type { LoadedAdapter } from '@graft/runner/engine/engine.ts'
import { loadedAdapterFromManifest } from '@graft/runner/engine/loaded-adapter.ts'
import { toFloat32 } from '@graft/sdk/format/dtypes.ts'
import { readSafetensors } from '@graft/sdk/format/safetensors.ts'

export const readBytes = async (path: string): Promise<Uint8Array> =>
  new Uint8Array(await readFile(path))

export const readJson = async <T>(path: string): Promise<T> =>
  JSON.parse(await readFile(path, 'utf8')) as T

/** Imports an adapter folder as PEFT or AdapterHub saved it, the way `graft publish` does. */
export async function importFolder(
  folder: string,
  base: Awaited<ReturnType<typeof describeCheckpoint>>,
): Promise<LoadedAdapter> {
  const files = new Map<string, Uint8Array>()
  for (const name of await readdir(folder))
    if (name !== 'task.json') files.set(name, await readBytes(join(folder, name)))
  const { manifest, safetensors } = await importAdapter({
    files,
    base,
    name: '@peers/sample',
    version: '1.0.0',
  })
  return loadedAdapterFromManifest(manifest, safetensors)
}

/** Every tensor of a safetensors file as f32. */
export async function readLogits(path: string): Promise<Map<string, Float32Array>> {
  const { tensors } = readSafetensors(await readBytes(path))
  return new Map([...tensors].map(([name, { dtype, data }]) => [name, toFloat32(dtype, data)]))
}

/** Worst |own - golden| as a share of the largest |golden|, position by position. */
export function worstPosition(own: Float32Array, golden: Float32Array, vocab: number): number {
  if (own.length !== golden.length) throw new Error(`${own.length} logits, not ${golden.length}`)
  let worst = 0
  for (let at = 0; at < golden.length; at += vocab) {
    let [diff, most] = [0, 0]
    for (let i = at; i < at + vocab; i++) {
      const own_ = Math.abs(own[i]! - golden[i]!)
      if (!(own_ <= diff)) diff = own_
      most = Math.max(most, Math.abs(golden[i]!))
    }
    if (!(diff / most <= worst)) worst = diff / most
  }
  return worst
}

import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { importAdapter } from '@graft/convert/import-adapter.ts'
import { sha256 } from '@graft/sdk/format/digest.ts'
import { toFloat32 } from '@graft/sdk/format/dtypes.ts'
import type { Goldens, Manifest } from '@graft/sdk/format/manifest.ts'
import { readSafetensors, writeSafetensors } from '@graft/sdk/format/safetensors.ts'
import type { BaseRecord } from '@graft/sdk/protocol/registry-api.ts'
import { type Published, signVersion } from './published.ts'

export const STORY = join(import.meta.dirname, '../../../../shared/data/bases/tinystories-656k')
export const storyAbsent = !existsSync(STORY)
if (storyAbsent) console.warn('skipped: ../shared/data/bases/tinystories-656k is absent')

const FIXTURE = join(import.meta.dirname, '../fixtures/story-lora')
const read = async (name: string) => new Uint8Array(await readFile(join(FIXTURE, name)))

/** Tensors by name as plain numbers, and the operations that use them: what a sabotage may change. */
export interface Draft {
  manifest: Manifest
  tensors: Map<string, { shape: number[]; values: Float32Array }>
}

/**
 * The PEFT fixture as a signed version with PEFT's goldens. `sabotage` changes the adapter after the goldens were made,
 * as a broken tool would: digests and signatures are those of what it left.
 */
export async function publishStory(
  base: BaseRecord,
  sabotage: (draft: Draft) => void = () => {},
): Promise<Published> {
  const files = new Map<string, Uint8Array>()
  for (const name of ['adapter_config.json', 'adapter_model.safetensors'])
    files.set(name, await read(name))
  const imported = await importAdapter({ files, base, name: '@acme/story', version: '1.0.0' })
  const tensors: Draft['tensors'] = new Map()
  for (const [name, { dtype, shape, data }] of readSafetensors(imported.safetensors).tensors)
    tensors.set(name, { shape, values: toFloat32(dtype, data).slice() })
  const draft: Draft = { manifest: structuredClone(imported.manifest), tensors }
  sabotage(draft)
  const written = new Map(
    [...tensors].map(([name, { shape, values }]) => [
      name,
      { dtype: 'F32', shape, data: new Uint8Array(values.buffer) },
    ]),
  )
  const file = writeSafetensors(written)
  const fileDigest = await sha256(file)
  const manifest: Manifest = {
    ...draft.manifest,
    tensors: await Promise.all(
      [...written].map(async ([name, { dtype, shape, data }]) => {
        return { name, dtype, shape, sha256: await sha256(data) }
      }),
    ),
    files: draft.manifest.files.map((row) =>
      row.role === 'canonical' ? { ...row, size: file.length, sha256: fileDigest } : row,
    ),
    origin: null,
  }
  const logits = await read('goldens.safetensors')
  const facts = JSON.parse(new TextDecoder().decode(await read('goldens.json'))) as Goldens
  const goldens: Goldens = {
    ...facts,
    logits: { sha256: await sha256(logits), size: logits.length },
  }
  return signVersion({ manifest, file, goldens: { goldens, blob: logits } })
}

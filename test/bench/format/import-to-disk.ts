import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { openInput } from '@graft/cli/files.ts'
import { nodeHash } from '@graft/cli/node-hash.ts'
import { importSource } from '@graft/convert/import-adapter.ts'
import { CHUNK_BYTES, chunksOf } from '@graft/sdk/format/byte-source.ts'
import type { Manifest } from '@graft/sdk/format/manifest.ts'
import type { BigAdapter } from './big-adapter.ts'

const SOURCE = ['adapter_config.json', 'adapter_model.safetensors']

/** The canonical file on disk, beside its source, every proof taken. */
export async function importToDisk({ folder, base }: BigAdapter): Promise<Manifest> {
  await using input = await openInput(folder)
  // What an earlier run left beside the source is not given to it.
  const files = new Map([...input.files].filter(([name]) => SOURCE.includes(name)))
  const made = await importSource({
    ...{ files, base, name: '@bench/big', version: '1.0.0' },
    createHash: nodeHash,
  })
  const out = await open(join(folder, 'adapter.safetensors'), 'w')
  const room = new Uint8Array(CHUNK_BYTES)
  for await (const chunk of chunksOf(made.safetensors, room)) await out.write(chunk)
  await out.close()
  return made.manifest
}

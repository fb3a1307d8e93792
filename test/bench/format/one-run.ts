import { createHash } from 'node:crypto'
import { open, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { importSource } from '@graft/convert/import-adapter.ts'
import { CHUNK_BYTES, chunksOf } from '@graft/sdk/format/byte-source.ts'
import { type CreateHash, fromHex } from '@graft/sdk/format/digest.ts'
import { manifestBytes, parseManifest } from '@graft/sdk/format/parse-manifest.ts'
import { verifyAdapter } from '@graft/sdk/format/verify-adapter.ts'
import type { BigAdapter } from './big-adapter.ts'
import { fileSource } from './file-source.ts'

export interface OneRun {
  seconds: number
  /** Of the process, at its most. */
  peakRss: number
}

const nodeHash: CreateHash = () => {
  const hash = createHash('sha256')
  return { update: (bytes) => void hash.update(bytes), digest: () => fromHex(hash.digest('hex')) }
}

/** Source folder to adapter.json and adapter.safetensors on disk, every proof taken. */
async function importOnce({ folder, base }: BigAdapter): Promise<void> {
  await using config = await fileSource(join(folder, 'adapter_config.json'))
  await using weights = await fileSource(join(folder, 'adapter_model.safetensors'))
  const files = new Map([
    ['adapter_config.json', config],
    ['adapter_model.safetensors', weights],
  ])
  const made = await importSource({
    ...{ files, base, name: '@bench/big', version: '1.0.0' },
    createHash: nodeHash,
  })
  const out = await open(join(folder, 'adapter.safetensors'), 'w')
  const room = new Uint8Array(CHUNK_BYTES)
  for await (const chunk of chunksOf(made.safetensors, room)) await out.write(chunk)
  await out.close()
  await writeFile(join(folder, 'adapter.json'), manifestBytes(made.manifest))
}

async function verifyOnce({ folder, base }: BigAdapter): Promise<void> {
  const manifest = parseManifest(await readFile(join(folder, 'adapter.json')))
  await using file = await fileSource(join(folder, 'adapter.safetensors'))
  await verifyAdapter(manifest, file, base.tensors, { createHash: nodeHash })
}

// A process of its own for every run: what one held is no part of the next one's peak.
process.once('message', async (message) => {
  const { what, adapter } = message as {
    what: 'import' | 'verify' | 'nothing'
    adapter: BigAdapter
  }
  const begin = performance.now()
  if (what === 'import') await importOnce(adapter)
  if (what === 'verify') await verifyOnce(adapter)
  const seconds = (performance.now() - begin) / 1000
  const run: OneRun = { seconds, peakRss: process.resourceUsage().maxRSS * 1024 }
  process.send!(run, undefined, undefined, () => process.disconnect())
})

import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { openInput } from '@graft/cli/files.ts'
import { nodeHash } from '@graft/cli/node-hash.ts'
import { manifestBytes, parseManifest } from '@graft/sdk/format/parse-manifest.ts'
import { verifyAdapter } from '@graft/sdk/format/verify-adapter.ts'
import type { BigAdapter } from './big-adapter.ts'
import { importToDisk } from './import-to-disk.ts'

export interface OneRun {
  seconds: number
  /** Of the process, at its most. */
  peakRss: number
}

/** Source folder to adapter.json and adapter.safetensors on disk, every proof taken. */
async function importOnce(adapter: BigAdapter): Promise<void> {
  const manifest = await importToDisk(adapter)
  await writeFile(join(adapter.folder, 'adapter.json'), manifestBytes(manifest))
}

async function verifyOnce({ folder, base }: BigAdapter): Promise<void> {
  const manifest = parseManifest(await readFile(join(folder, 'adapter.json')))
  await using input = await openInput(join(folder, 'adapter.safetensors'))
  const [file] = input.files.values()
  await verifyAdapter(manifest, file!, base.tensors, { createHash: nodeHash })
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

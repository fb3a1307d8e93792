import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { exportTo, openAdapter } from '@graft/convert/export-adapter.ts'
import { importAdapter } from '@graft/convert/import-adapter.ts'
import { heldBytes, readAll } from '@graft/sdk/format/byte-source.ts'
import type { Origin } from '@graft/sdk/format/manifest.ts'
import { baseAt, readFolder } from '../../fixtures.ts'

/**
 * node drive.ts <source folder> <base folder> <format> <out folder>: import, forget the origin, export from operations
 * alone. Prints losses and notes as JSON; for the recipes that load the result in the real tool. Exits 3 where the import
 * already refuses the source.
 */
const [source = '', baseFolder = '', format = '', out = ''] = process.argv.slice(2)
const base = await baseAt(baseFolder, 'base')
const files = readFolder(source)
const { manifest, safetensors } = await importAdapter({
  files,
  base,
  name: '@acme/driven',
  version: '1.0.0',
}).catch((e: Error) => {
  console.error(`GraftError: ${e.message}`)
  process.exit(3)
})
const adapter = await openAdapter({ ...manifest, origin: null }, heldBytes(safetensors))
const exported = await exportTo(format as Origin['format'], adapter, {
  base: { tensors: base.tensors },
})
for (const [path, bytes] of exported.files) {
  const target = join(out, path)
  mkdirSync(dirname(target), { recursive: true })
  writeFileSync(target, await readAll(bytes))
}
process.stdout.write(JSON.stringify({ losses: exported.losses, notes: exported.notes }))

/**
 * node test/sdk/convert/peft/dense/export.ts DIR: imports every fixture, keeps manifest and canonical tensors alone, and exports
 * them to DIR, where `make.py check DIR` loads them with PEFT.
 */
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { exportAdapter } from '@graft/convert/export-adapter.ts'
import { importAdapter } from '@graft/convert/import-adapter.ts'
import { baseAt } from '../../fixtures.ts'

const HERE = join(import.meta.dirname, 'fixtures')
const out = process.argv[2]
if (out === undefined) throw new Error('name a folder')
const base = await baseAt(join(HERE, 'base'), 'base')
for (const entry of await readdir(HERE, { withFileTypes: true })) {
  if (!entry.isDirectory() || entry.name === 'base') continue
  const files = new Map<string, Uint8Array>()
  for (const name of await readdir(join(HERE, entry.name)))
    files.set(name, new Uint8Array(await readFile(join(HERE, entry.name, name))))
  const adapter = await importAdapter({ files, base, name: '@peft/dense', version: '1.0.0' })
  await mkdir(join(out, entry.name), { recursive: true })
  for (const [path, bytes] of await exportAdapter(adapter))
    await writeFile(join(out, entry.name, path), bytes)
}

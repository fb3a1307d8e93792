import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { exportTo, openAdapter } from '@graft/convert/export-adapter.ts'
import { importAdapter } from '@graft/convert/import-adapter.ts'
import { heldBytes, readAll } from '@graft/sdk/format/byte-source.ts'
import { sameFingerprint } from '@graft/sdk/format/fingerprint.ts'
import type { Origin } from '@graft/sdk/format/manifest.ts'
import { adapterProofs } from '@graft/sdk/format/proofs.ts'
import { describe, expect, it } from 'vitest'
import { fixtureBase, sourceOf } from './fixtures.ts'

const TARGETS = ['peft', 'adapters', 'gguf', 'mlx', 'kohya', 'onnx'] as const
type Files = ReadonlyMap<string, Uint8Array>

const config = JSON.parse(
  readFileSync(join(import.meta.dirname, 'fixtures/base/config.json'), 'utf8'),
)

async function read(files: Files) {
  const base = { ...(await fixtureBase()), config }
  const { manifest, safetensors, report } = await importAdapter({
    ...{ files, base, name: '@acme/matrix', version: '1.0.0' },
  })
  const adapter = await openAdapter(manifest, heldBytes(safetensors))
  const { fingerprint, sites } = await adapterProofs(manifest, adapter.tensors)
  return {
    adapter,
    report,
    fingerprint,
    norms: sites.map(({ site, norm }) => `${site} ${norm?.toPrecision(5)}`).sort(),
  }
}

/** The same operations in another tool's files, whatever the adapter's own format is. */
async function write(
  { adapter }: Awaited<ReturnType<typeof read>>,
  to: Origin['format'],
): Promise<Files> {
  const { tensors } = await fixtureBase()
  const { manifest } = adapter
  const foreign = { ...adapter, manifest: { ...manifest, origin: null } }
  const { files } = await exportTo(to, foreign, { base: { tensors, config } })
  const bytes = [...files].map(async ([path, source]) => [path, await readAll(source)] as const)
  return new Map(await Promise.all(bytes))
}

// One of one rank and scale, and one where every module has its own.
describe.each(['peft-lora', 'peft-lora-patterns'])('%s from every tool to every other', (name) => {
  it.each(TARGETS.flatMap((from) => TARGETS.map((to) => [from, to] as const)))(
    '%s to %s: the same fingerprint and the same norm of every module',
    async (from, to) => {
      const author = await read(sourceOf(name))
      const there = await read(await write(author, from))
      const further = await read(await write(there, to))
      expect([there.report.format, further.report.format]).toEqual([from, to])
      expect(sameFingerprint(author.fingerprint, further.fingerprint)).toBe(true)
      expect(further.norms).toEqual(author.norms)
    },
  )
})

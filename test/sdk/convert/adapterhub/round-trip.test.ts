import { exportAdapter } from '@graft/convert/export-adapter.ts'
import { importAdapter } from '@graft/convert/import-adapter.ts'
import { manifestBytes, parseManifest } from '@graft/sdk/format/parse-manifest.ts'
import { describe, expect, it } from 'vitest'
import { baseOf, importFixture, READ, sourceOf } from './fixtures.ts'

describe('export(import(x)) = x for what AdapterHub saved', () => {
  it.each(READ)('%s comes back byte for byte', async (name) => {
    const { manifest, safetensors, report } = await importFixture(name)
    expect(await exportAdapter({ manifest, safetensors })).toEqual(sourceOf(name))
    expect(report.byteExact).toBe(true)
    expect(report.ignoredFiles).toEqual([])
  })

  it.each(READ)('%s gives the same adapter when it is imported again', async (name) => {
    const first = await importFixture(name)
    const manifest = parseManifest(manifestBytes(first.manifest))
    const files = await exportAdapter({ manifest, safetensors: first.safetensors })
    const base = await baseOf(name)
    const second = await importAdapter({ files, base, name: manifest.name, version: '1.0.0' })
    expect(manifestBytes(second.manifest)).toEqual(manifestBytes(first.manifest))
    expect(second.safetensors).toEqual(first.safetensors)
  })
})

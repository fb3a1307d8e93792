import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { exportAdapter } from '@graft/convert/export-adapter.ts'
import { importAdapter } from '@graft/convert/import-adapter.ts'
import { checkManifest, manifestBytes, parseManifest } from '@graft/sdk/format/parse-manifest.ts'
import { readSafetensors, type Tensor, writeSafetensors } from '@graft/sdk/format/safetensors.ts'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  baseAt,
  baseOf,
  fixtureBase,
  fixtures,
  importFixture,
  readFolder,
  SAMPLES,
  sourceOf,
  withConfig,
} from './fixtures.ts'

const ALL = [...fixtures('peft'), ...fixtures('ah')]

describe('exportAdapter', () => {
  it.each(ALL)('gives back every byte of %s', async (name) => {
    const { manifest, safetensors, report } = await importFixture(name)
    expect(await exportAdapter({ manifest, safetensors })).toEqual(sourceOf(name))
    expect(report.byteExact).toBe(true)
  })

  it('works from the canonical bytes alone, and importing again gives the same adapter', async () => {
    for (const name of ALL) {
      const first = await importFixture(name)
      const manifest = parseManifest(manifestBytes(first.manifest))
      const files = await exportAdapter({ manifest, safetensors: first.safetensors })
      const base = await baseOf(name)
      const { name: title, version } = manifest
      const second = await importAdapter({ files, base, name: title, version })
      expect(manifestBytes(second.manifest)).toEqual(manifestBytes(first.manifest))
      expect(second.safetensors).toEqual(first.safetensors)
    }
  })

  it('holds for any weights, dtypes and ranks: export(import(x)) = x', async () => {
    const base = await fixtureBase()
    const config = JSON.parse(
      new TextDecoder().decode(sourceOf('peft-lora').get('adapter_config.json')),
    )
    const size = { F32: 4, F16: 2, BF16: 2 }
    await fc.assert(
      fc.asyncProperty(
        fc.record({
          r: fc.integer({ min: 1, max: 9 }),
          alpha: fc.oneof(
            fc.integer({ min: 1, max: 64 }),
            fc.double({ min: 0.01, max: 64, noNaN: true }),
          ),
          rs: fc.boolean(),
          dtype: fc.constantFrom('F32', 'F16', 'BF16'),
          fill: fc.integer({ min: 1, max: 63 }),
        }),
        async ({ r, alpha, rs, dtype, fill }) => {
          const tensors = new Map<string, Tensor>()
          for (const layer of [0, 1])
            for (const [part, shape] of [
              ['A', [r, 32]],
              ['B', [32, r]],
            ] as const) {
              const data = new Uint8Array(r * 32 * size[dtype as keyof typeof size]).fill(fill)
              tensors.set(
                `base_model.model.model.layers.${layer}.self_attn.q_proj.lora_${part}.weight`,
                { dtype, shape: [...shape], data },
              )
            }
          const text = {
            ...config,
            r,
            lora_alpha: alpha,
            use_rslora: rs,
            target_modules: ['q_proj'],
          }
          const files = new Map([
            ['adapter_config.json', new TextEncoder().encode(JSON.stringify(text, null, 2))],
            ['adapter_model.safetensors', writeSafetensors(tensors, { format: 'pt' })],
          ])
          const made = await importAdapter({ files, base, name: '@a/x', version: '1.0.0' })
          expect(await exportAdapter(made)).toEqual(files)
          const [op] = made.manifest.operations
          expect(Number((op as { scale: string }).scale)).toBe(alpha / (rs ? Math.sqrt(r) : r))
        },
      ),
      { numRuns: 60 },
    )
  })

  it('puts token rows back in the order of the source', async () => {
    const edit = withConfig({ trainable_token_indices: [26, 2, 9] })
    const { manifest, safetensors } = await importFixture('peft-tokens', edit)
    expect(manifest.operations.at(-1)).toMatchObject({ rows: [2, 9, 26] })
    const files = sourceOf('peft-tokens')
    edit(files)
    expect(await exportAdapter({ manifest, safetensors })).toEqual(files)
  })

  it('keeps the header of a file that was laid out otherwise, and gives back every byte', async () => {
    const reversed = (files: Map<string, Uint8Array>) => {
      const bytes = files.get('adapter_model.safetensors')!
      const length = 8 + Number(new DataView(bytes.buffer).getBigUint64(0, true))
      const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, length)))
      const text = JSON.stringify(Object.fromEntries(Object.entries(header).reverse()), null, 1)
      const json = new TextEncoder().encode(text)
      const out = new Uint8Array(8 + json.length + bytes.length - length)
      new DataView(out.buffer).setBigUint64(0, BigInt(json.length), true)
      out.set(json, 8)
      out.set(bytes.subarray(length), 8 + json.length)
      files.set('adapter_model.safetensors', out)
    }
    const { manifest, safetensors, report } = await importFixture('peft-lora', reversed)
    expect(report.byteExact).toBe(true)
    expect(manifest.origin!.header).toBeDefined()
    const exported = await exportAdapter({ manifest, safetensors })
    const source = sourceOf('peft-lora')
    reversed(source)
    expect(exported).toEqual(source)
  })

  it('keeps the order of metadata alone where nothing else is laid out otherwise', async () => {
    const shuffled = (files: Map<string, Uint8Array>) => {
      const name = 'adapter_model.safetensors'
      const { tensors } = readSafetensors(files.get(name)!)
      const sorted = writeSafetensors(tensors, { a: '1', b: '2', format: 'pt' })
      const text = Buffer.from(sorted).toString('latin1')
      const other = text.replace(
        '{"a":"1","b":"2","format":"pt"}',
        '{"format":"pt","b":"2","a":"1"}',
      )
      files.set(name, new Uint8Array(Buffer.from(other, 'latin1')))
    }
    const { manifest, safetensors } = await importFixture('peft-lora', shuffled)
    expect(manifest.origin).toMatchObject({ metadataOrder: ['format', 'b', 'a'] })
    expect(manifest.origin!.header).toBeUndefined()
    const source = sourceOf('peft-lora')
    shuffled(source)
    expect(await exportAdapter({ manifest, safetensors })).toEqual(source)
    const origin = { ...manifest.origin!, metadataOrder: ['format', 'b'] }
    expect(() => checkManifest({ ...manifest, origin })).toThrow('origin.metadataOrder')
  })

  it('refuses an adapter that came from elsewhere, and a transform it does not know', async () => {
    const { manifest, safetensors } = await importFixture('peft-lora')
    const of = (origin: typeof manifest.origin) =>
      exportAdapter({ manifest: { ...manifest, origin }, safetensors })
    await expect(of(null)).rejects.toThrow('no origin')
    const keyMap = manifest.origin!.keyMap.map((row) => ({ ...row, transform: 'rotate 90' }))
    await expect(of({ ...manifest.origin!, keyMap })).rejects.toThrow('rotate 90')
  })
})

const ADAPTERS = join(SAMPLES, 'adapters')
const BASE = join(SAMPLES, 'base/graft-tiny')
const present = existsSync(ADAPTERS) && existsSync(join(BASE, 'model.safetensors'))
if (!present) console.warn('skipped: infra/samples holds no adapters')

describe.skipIf(!present)('the sample adapters', () => {
  const names = present
    ? readdirSync(ADAPTERS).filter((name) =>
        existsSync(join(ADAPTERS, name, 'adapter_config.json')),
      )
    : []
  it.each(names)('%s is imported and exported byte for byte', async (name) => {
    const files = readFolder(join(ADAPTERS, name))
    const base = await baseAt(BASE, 'graft-tiny')
    const made = await importAdapter({ files, base, name: `@samples/${name}`, version: '1.0.0' })
    for (const [path, bytes] of await exportAdapter(made))
      expect(files.get(path), path).toEqual(bytes)
  })
})

import { exportAdapter } from '@graft/convert/export-adapter.ts'
import { importAdapter } from '@graft/convert/import-adapter.ts'
import { decodeBase64 } from '@graft/sdk/format/base64url.ts'
import { manifestBytes, parseManifest } from '@graft/sdk/format/parse-manifest.ts'
import { readSafetensors } from '@graft/sdk/format/safetensors.ts'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { baseNamed, baseOf, importFixture, SAVES, sourceOf } from './fixtures.ts'

const ELEMENT_BYTES = { F32: 4, F16: 2, BF16: 2 } as const

describe('export(import(x)) = x for what mlx-lm saved', () => {
  it.each(SAVES)('%s comes back byte for byte', async (name) => {
    const { manifest, safetensors, report } = await importFixture(name)
    expect(report).toMatchObject({ format: 'mlx', byteExact: true, ignoredFiles: [] })
    // mlx lays tensors out in the order of a hash table, so the header is kept.
    expect(decodeBase64(manifest.origin!.header!).length).toBeGreaterThan(100)
    const back = await exportAdapter({
      manifest: parseManifest(manifestBytes(manifest)),
      safetensors,
    })
    expect(back).toEqual(sourceOf(name))
  })

  it('holds on the checkpoint that mlx-lm stacked the experts of', async () => {
    const base = await baseNamed('mixtral-hf')
    const { manifest, safetensors } = await importFixture('mixtral-switch', () => {}, base)
    expect(manifest.operations.filter(({ site }) => site.includes('.experts.'))).toHaveLength(6)
    expect(await exportAdapter({ manifest, safetensors })).toEqual(sourceOf('mixtral-switch'))
  })

  it('gives the same adapter when it is imported again', async () => {
    for (const name of SAVES) {
      const first = await importFixture(name)
      const files = await exportAdapter(first)
      const { name: title, version } = first.manifest
      const second = await importAdapter({ files, base: await baseOf(name), name: title, version })
      expect(manifestBytes(second.manifest)).toEqual(manifestBytes(first.manifest))
    }
  })

  it('holds for any rank, scale, dtype, order and choice of layers', async () => {
    const base = await baseNamed('llama')
    const sizes = { 'self_attn.q_proj': [16, 16], 'mlp.down_proj': [24, 16] } as const
    await fc.assert(
      fc.asyncProperty(
        fc.record({
          rank: fc.integer({ min: 1, max: 17 }),
          scale: fc.oneof(
            fc.integer({ min: 1, max: 40 }),
            fc.double({ min: 0.001, max: 64, noNaN: true }),
          ),
          dtype: fc.constantFrom('F32', 'F16', 'BF16'),
          layers: fc.constantFrom(-1, 1, 2),
          keys: fc.subarray(['self_attn.q_proj', 'mlp.down_proj'], { minLength: 1 }),
          reverse: fc.boolean(),
          seed: fc.integer({ min: 1, max: 58 }),
        }),
        async ({ rank, scale, dtype, layers, keys, reverse, seed }) => {
          const header: Record<string, unknown> = {}
          const parts: Uint8Array[] = []
          let at = 0
          const first = layers === 1 ? 1 : 0
          const names = [0, 1]
            .filter((layer) => layer >= first)
            .flatMap((layer) =>
              keys.flatMap((key) =>
                (['lora_a', 'lora_b'] as const).map((part) => ({ layer, key, part })),
              ),
            )
          for (const { layer, key, part } of reverse ? names.toReversed() : names) {
            const [inside, out] = sizes[key as keyof typeof sizes]
            const shape = part === 'lora_a' ? [inside, rank] : [rank, out]
            const bytes = shape[0]! * shape[1]! * ELEMENT_BYTES[dtype as 'F32']
            const data = new Uint8Array(bytes).map((_, i) => (i * seed) % 59)
            header[`model.layers.${layer}.${key}.${part}`] = {
              data_offsets: [at, at + bytes],
              dtype,
              shape,
            }
            parts.push(data)
            at += bytes
          }
          const json = new TextEncoder().encode(JSON.stringify({ __metadata__: null, ...header }))
          const file = new Uint8Array(8 + json.length + at)
          new DataView(file.buffer).setBigUint64(0, BigInt(json.length), true)
          file.set(json, 8)
          let to = 8 + json.length
          for (const part of parts) {
            file.set(part, to)
            to += part.length
          }
          const config = {
            fine_tune_type: 'lora',
            num_layers: layers,
            lora_parameters: { rank, scale, dropout: 0, keys },
          }
          const files = new Map([
            ['adapter_config.json', new TextEncoder().encode(JSON.stringify(config))],
            ['adapters.safetensors', file],
          ])
          const made = await importAdapter({ files, base, name: '@a/x', version: '1.0.0' })
          expect(await exportAdapter(made)).toEqual(files)
          expect(Number((made.manifest.operations[0] as { scale: string }).scale)).toBe(scale)
          const canonical = readSafetensors(made.safetensors).tensors
          expect(
            canonical.get('model.layers.1.self_attn.q_proj::lora.A')?.shape ?? [rank, 16],
          ).toEqual([rank, 16])
        },
      ),
      { numRuns: 60 },
    )
  })
})

import { join } from 'node:path'
import { exportAdapter, exportTo, openAdapter } from '@graft/convert/export-adapter.ts'
import { importAdapter } from '@graft/convert/import-adapter.ts'
import type { ImportBase } from '@graft/convert/source-format.ts'
import { describeBase } from '@graft/sdk/format/base-identity.ts'
import { heldBytes, readAll } from '@graft/sdk/format/byte-source.ts'
import { sha256 } from '@graft/sdk/format/digest.ts'
import { sameFingerprint } from '@graft/sdk/format/fingerprint.ts'
import { manifestBytes, parseManifest } from '@graft/sdk/format/parse-manifest.ts'
import { adapterProofs } from '@graft/sdk/format/proofs.ts'
import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { openKit } from './kit.ts'
import { type Files, type Lora, SOURCES } from './sources.ts'

const kit = openKit(join(import.meta.dirname, 'fixtures'))
let base: ImportBase
beforeAll(async () => {
  const weights = kit.read('base/model.safetensors')
  const configJson = kit.read('base/config.json')
  const config = JSON.parse(new TextDecoder().decode(configJson))
  const files = [
    { path: 'm.safetensors', size: weights.length, sha256: await sha256(weights), header: weights },
  ]
  base = {
    ...(await describeBase({ name: 'kit', configJson, tokenizerJson: null, files })),
    config,
  }
})

const importOf = (files: Files) =>
  importAdapter({ files, base, name: '@kit/law', version: '1.0.0' })
type Imported = Pick<Awaited<ReturnType<typeof importOf>>, 'manifest' | 'safetensors'>

const open = ({ manifest, safetensors }: Imported) => openAdapter(manifest, heldBytes(safetensors))
const proofsOf = async (imported: Imported) => {
  const { manifest, tensors } = await open(imported)
  return adapterProofs(manifest, tensors)
}

/** Any two LoRAs of q_proj and k_proj: values of every size, zeros and subnormals among them. */
const loras = fc
  .record({ rank: fc.integer({ min: 1, max: 4 }), alpha: fc.constantFrom(1, 2, 3, 8, 16, 0.5) })
  .chain(({ rank, alpha }) => {
    const values = (count: number) =>
      fc
        .array(fc.float({ noNaN: true, min: -4, max: 4 }), { minLength: count, maxLength: count })
        .map((list) => Float32Array.from([1, ...list.slice(1)]))
    const module = (name: string, out: number, heads: number) =>
      fc.record({ A: values(rank * 8), B: values(out * rank) }).map((tensors) => {
        return { site: `model.layers.0.self_attn.${name}`, in: 8, out, heads, ...tensors }
      })
    return fc
      .tuple(module('q_proj', 8, 2), module('k_proj', 4, 1))
      .map((modules): Lora => ({ rank, alpha, modules }))
  })

describe('the laws of the format', () => {
  it.each(Object.keys(SOURCES))('export(import(x)) = x, byte for byte: %s', async (tool) => {
    await fc.assert(
      fc.asyncProperty(loras, async (lora) => {
        const files = SOURCES[tool]!(lora)
        const { manifest, safetensors } = await importOf(files)
        // From the canonical tensors and the manifest's own bytes alone.
        const again = parseManifest(manifestBytes(manifest))
        expect(await exportAdapter({ manifest: again, safetensors })).toEqual(files)
      }),
      { numRuns: 40 },
    )
  })

  it('one adapter has one fingerprint and one norm a site, whichever tool saved it', async () => {
    await fc.assert(
      fc.asyncProperty(loras, async (lora) => {
        const proofs = await Promise.all(
          Object.values(SOURCES).map(async (source) => proofsOf(await importOf(source(lora)))),
        )
        const [first, ...rest] = proofs
        for (const other of rest) {
          expect(sameFingerprint(first!.fingerprint, other.fingerprint)).toBe(true)
          for (const { site, norm } of other.sites)
            expect(norm).toBeCloseTo(first!.sites.find((one) => one.site === site)!.norm!, 4)
        }
      }),
      { numRuns: 40 },
    )
  })

  it('what another tool is given computes the same, or the report says what does not', async () => {
    const targets = Object.keys(SOURCES) as (keyof typeof SOURCES)[]
    await fc.assert(
      fc.asyncProperty(
        loras,
        fc.constantFrom(...targets),
        fc.constantFrom(...targets),
        async (lora, from, to) => {
          const first = await importOf(SOURCES[from]!(lora))
          const { files, losses } = await exportTo(to as 'peft', await open(first), { base })
          const read = [...files].map(async ([path, file]) => [path, await readAll(file)] as const)
          const second = await importOf(new Map(await Promise.all(read)))
          expect(losses).toEqual([])
          const [a, b] = [await proofsOf(first), await proofsOf(second)]
          expect(sameFingerprint(a.fingerprint, b.fingerprint)).toBe(true)
        },
      ),
      { numRuns: 60 },
    )
  })
})

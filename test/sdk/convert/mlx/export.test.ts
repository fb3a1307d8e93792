import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { exportTo, openAdapter } from '@graft/convert/export-adapter.ts'
import { importAdapter } from '@graft/convert/import-adapter.ts'
import { heldBytes, readAll } from '@graft/sdk/format/byte-source.ts'
import type { Manifest } from '@graft/sdk/format/manifest.ts'
import type { LowRank, Magnitude } from '@graft/sdk/format/operations.ts'
import { writeSafetensors } from '@graft/sdk/format/safetensors.ts'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import * as adapterhub from '../adapterhub/fixtures.ts'
import { baseOf, expectedOf, importFixture, readFolder, tensorsOf } from '../fixtures.ts'
import { OF_MLX, TO_MLX, toMlx } from './exports.ts'
import * as mlx from './fixtures.ts'

const EXPORTED = join(import.meta.dirname, 'fixtures/exported')

type Made = { manifest: Manifest; safetensors: Uint8Array }

interface Delta {
  /** s B A, [out, in], in f64 from what the files hold. */
  values: Float64Array
  /** The same of absolute values: what an element was summed from. */
  sizes: Float64Array
}

function deltas({ manifest, safetensors }: Made): Map<string, Delta> {
  const tensors = tensorsOf(safetensors)
  const updates = manifest.operations.filter(
    (op): op is LowRank | Magnitude => op.op === 'low_rank' || op.op === 'magnitude',
  )
  return new Map(
    updates.map((op) => {
      const [a, b] = [tensors.get(op.slots.A)!.data, tensors.get(op.slots.B)!.data]
      const [values, sizes] = [new Float64Array(op.out * op.in), new Float64Array(op.out * op.in)]
      for (let o = 0; o < op.out; o++)
        for (let r = 0; r < op.rank; r++)
          for (let i = 0; i < op.in; i++) {
            const term = Number(op.scale) * b[o * op.rank + r]! * a[r * op.in + i]!
            values[o * op.in + i]! += term
            sizes[o * op.in + i]! += Math.abs(term)
          }
      return [op.site, { values, sizes }]
    }),
  )
}

/** The unit of the last place of an f32. */
const ulp = (v: number): number => 2 ** (Math.floor(Math.log2(Math.max(v, 2 ** -126))) - 23)

/** @param most ulps of f32 of what an element was summed from */
function compareDeltas(a: Made, b: Made, most: number): void {
  const [x, y] = [deltas(a), deltas(b)]
  expect([...y.keys()].toSorted()).toEqual([...x.keys()].toSorted())
  for (const [site, { values, sizes }] of x)
    for (const [i, v] of values.entries()) {
      const other = y.get(site)!.values[i]!
      if (most === 0) expect(other, `${site} ${i}`).toBe(v)
      else expect(Math.abs(v - other) / ulp(sizes[i]!), `${site} ${i}`).toBeLessThanOrEqual(most)
    }
}

/** The first update of an adapter with factors, and their values. */
function factorsOf({ manifest, safetensors }: Made) {
  const op = manifest.operations[0] as LowRank
  const tensors = tensorsOf(safetensors)
  return { op, E: tensors.get(op.slots.E!)!.data, D: tensors.get(op.slots.D!)!.data }
}

const backIn = async (files: Map<string, Uint8Array>, base: Awaited<ReturnType<typeof baseOf>>) =>
  importAdapter({ files, base, name: '@acme/back', version: '1.0.0' })

describe('PEFT to MLX', () => {
  it.each(TO_MLX)('%s gives the very files that mlx-lm has loaded', async (name) => {
    const { files } = await toMlx(await importFixture(name), { base: await baseOf(name) })
    expect(files).toEqual(readFolder(join(EXPORTED, name)))
  })

  it.each(TO_MLX.filter((name) => name !== 'peft-lora-f16'))(
    '%s: mlx answered them as PEFT answers its own',
    (name) => {
      const mlxLogits = tensorsOf(
        new Uint8Array(readFileSync(join(EXPORTED, name, 'expected.safetensors'))),
      ).get('logits')!
      const { data } = expectedOf(name).get('logits')!
      const most = data.reduce((top, v) => Math.max(top, Math.abs(v)), 0)
      for (const [i, v] of data.entries())
        expect(Math.abs(v - mlxLogits.data[i]!)).toBeLessThan(1e-5 * most)
    },
  )

  it('keeps every delta: bit for bit where nothing is folded, within an ulp of f32 where a scale is', async () => {
    for (const name of ['peft-lora', 'peft-rslora', 'peft-dora', 'peft-lora-f16'] as const) {
      const made = await importFixture(name)
      const { files, losses } = await toMlx(made, { base: await baseOf(name) })
      expect(losses).toEqual([])
      compareDeltas(made, await backIn(files, await baseOf(name)), 0)
    }
    const made = await importFixture('peft-lora-patterns')
    const { files, losses, notes } = await toMlx(made, { base: await baseOf('peft-lora-patterns') })
    compareDeltas(made, await backIn(files, await baseOf('peft-lora-patterns')), 1)
    expect(losses.map(({ site, field }) => [site, field])).toEqual([
      ['model.layers.0.self_attn.q_proj', 'scale'],
      ['model.layers.1.self_attn.q_proj', 'scale'],
    ])
    expect(losses[0]!.maxAbsError).toBeGreaterThan(0)
    expect(losses[0]!.maxAbsError).toBeLessThan(1e-7)
    expect(losses[0]!.what).toContain("file's scale 1.5")
    expect(notes).toEqual(['3 of 4 updates padded with zeros to rank 6, which the file has one of'])
  })

  it('folds powers of two and pads ranks without a loss, whatever they are', async () => {
    const base = await baseOf('peft-lora')
    const plain = await importFixture('peft-lora')
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.record({
            rank: fc.integer({ min: 1, max: 6 }),
            exponent: fc.integer({ min: -6, max: 6 }),
            seed: fc.integer({ min: 1, max: 1000 }),
          }),
          { minLength: 2, maxLength: 2 },
        ),
        async (updates) => {
          const tensors = new Map<string, { dtype: string; shape: number[]; data: Uint8Array }>()
          const operations = updates.map(({ rank, exponent, seed }, layer): LowRank => {
            const site = `model.layers.${layer}.self_attn.q_proj`
            const slots = { A: `${site}::lora.A`, B: `${site}::lora.B` }
            for (const [slot, shape] of [
              ['A', [rank, 32]],
              ['B', [32, rank]],
            ] as const) {
              const values = Float32Array.from({ length: rank * 32 }, (_, i) =>
                Math.sin(i * seed + layer + (slot === 'A' ? 0 : 1)),
              )
              tensors.set(slots[slot], {
                dtype: 'F32',
                shape: [...shape],
                data: new Uint8Array(values.buffer),
              })
            }
            return {
              op: 'low_rank',
              site,
              in: 32,
              out: 32,
              rank,
              scale: `${2 ** exponent}`,
              slots,
            }
          })
          const made = {
            manifest: { ...plain.manifest, operations },
            safetensors: writeSafetensors(tensors),
          }
          const { files, losses } = await toMlx(made, { base })
          expect(losses).toEqual([])
          compareDeltas(made, await backIn(files, base), 0)
        },
      ),
      { numRuns: 40 },
    )
  })

  it('folds factors of rank and output, and says what that costs', async () => {
    const made = await adapterhub.importFixture('plain-vera-diagonal')
    const base = await adapterhub.baseOf('plain-vera-diagonal')
    const { files, losses } = await toMlx(made, { base })
    expect([...new Set(losses.map(({ field }) => field))].toSorted()).toEqual(['A', 'B'])
    const { op, E, D } = factorsOf(made)
    const back = await backIn(files, base)
    const [own, folded] = [deltas(made).get(op.site)!, deltas(back).get(op.site)!]
    // E and D are not in deltas(), so they are put in here, around A and B.
    const tensors = tensorsOf(made.safetensors)
    const [a, b] = [tensors.get(op.slots.A)!.data, tensors.get(op.slots.B)!.data]
    for (let o = 0; o < op.out; o++)
      for (let i = 0; i < op.in; i++) {
        let want = 0
        for (let r = 0; r < op.rank; r++)
          want += D[o]! * b[o * op.rank + r]! * E[r]! * a[r * op.in + i]!
        const at = o * op.in + i
        expect(
          Math.abs(Number(op.scale) * want - folded.values[at]!) / ulp(own.sizes[at]!),
        ).toBeLessThanOrEqual(2)
      }
  })

  it('keeps an update of scale 0 silent beside others, and refuses what folding takes out of f32', async () => {
    const made = await importFixture('peft-lora')
    const base = await baseOf('peft-lora')
    const scaled = (...scales: string[]) => {
      const operations = made.manifest.operations
        .slice(0, 3)
        .map((op, i) => ({ ...(op as LowRank), scale: scales[i]! }))
      return { ...made, manifest: { ...made.manifest, operations } }
    }
    const silent = scaled('0', '0', '0.5')
    const { files, losses } = await toMlx(silent, { base })
    expect(losses).toEqual([])
    const back = await backIn(files, base)
    expect(back.report.scales).toEqual(['0.5'])
    compareDeltas(silent, back, 0)
    await expect(toMlx(scaled('2', '2', `1${'0'.repeat(60)}`), { base })).rejects.toMatchObject({
      code: 'ERR_WEIGHTS_NON_FINITE',
    })
  })

  it('names modules by their whole paths where layers differ, or where the base is not at hand', async () => {
    const configOf = (files: Map<string, Uint8Array>) =>
      JSON.parse(new TextDecoder().decode(files.get('adapter_config.json')))
    const made = await importFixture('peft-lora')
    const one = {
      ...made,
      manifest: { ...made.manifest, operations: made.manifest.operations.slice(0, 1) },
    }
    const only = [made.manifest.operations[0]!.site]
    expect(configOf((await toMlx(one, { base: await baseOf('peft-lora') })).files)).toMatchObject({
      num_layers: -1,
      lora_parameters: { keys: only },
    })
    const { files } = await toMlx(made, {})
    expect(configOf(files).num_layers).toBe(-1)
    expect(configOf(files).lora_parameters.keys).toHaveLength(4)
    compareDeltas(made, await backIn(files, await baseOf('peft-lora')), 0)
  })

  it.each([
    ['peft-lora-bias', 'lora_bias'],
    ['peft-ia3', 'scale at model.layers.0'],
    ['peft-prefix', 'prefix at model.layers.0.self_attn'],
    ['peft-prompt', 'prompt at model.embed_tokens'],
    ['peft-modules-to-save', 'replace at lm_head'],
    ['peft-tokens', 'replace at model.embed_tokens'],
    ['ah-seq-bn', 'bottleneck at model.layers.0'],
  ])('refuses %s, naming what has no place: %s', async (name, reason) => {
    const made = await importFixture(name)
    await expect(toMlx(made, { base: await baseOf(name) })).rejects.toMatchObject({
      code: 'ERR_METHOD_UNSUPPORTED',
      message: expect.stringContaining(reason),
    })
  })

  it('refuses an embedding without its base, and one that a head is tied to', async () => {
    const made = await mlx.importFixture('llama-paths')
    const other = { ...made, manifest: { ...made.manifest, origin: null } }
    await expect(toMlx(other, {})).rejects.toMatchObject({ code: 'ERR_REQUEST_INVALID' })
    const { files } = await toMlx(other, { base: await mlx.baseNamed('llama') })
    compareDeltas(made, await backIn(files, await mlx.baseNamed('llama')), 0)
    await expect(toMlx(other, { base: await mlx.baseNamed('tied') })).rejects.toMatchObject({
      code: 'ERR_METHOD_UNSUPPORTED',
      message: expect.stringContaining('shares the weight'),
    })
  })
})

describe('MLX out of its operations', () => {
  const loaded: Record<string, Record<string, string>> = JSON.parse(
    readFileSync(join(import.meta.dirname, 'fixtures/exported.json'), 'utf8'),
  )
  it.each(OF_MLX)(
    '%s gives files that answer as the original, bit for bit, in mlx-lm',
    async (name) => {
      const { manifest, safetensors } = await mlx.importFixture(name)
      const made = { manifest: { ...manifest, origin: null }, safetensors }
      const { files, losses, notes } = await toMlx(made, { base: await mlx.baseOf(name) })
      expect([losses, notes]).toEqual([[], []])
      const digests = [...files].map(
        ([path, bytes]) => [path, createHash('sha256').update(bytes).digest('hex')] as const,
      )
      expect(Object.fromEntries(digests)).toEqual(loaded[name])
    },
  )
})

describe('MLX to PEFT', () => {
  it.each(['llama-keys', 'llama-trained', 'llama-bf16', 'llama-f16'])(
    '%s: the same deltas, bit for bit',
    async (name) => {
      const made = await mlx.importFixture(name)
      const base = await mlx.baseOf(name)
      const open = await openAdapter(made.manifest, heldBytes(made.safetensors))
      const { files, losses } = await exportTo('peft', open, { base })
      expect(losses).toEqual([])
      const read = [...files].map(async ([path, source]) => [path, await readAll(source)] as const)
      const back = await backIn(new Map(await Promise.all(read)), base)
      expect(back.report.format).toBe('peft')
      compareDeltas(made, back, 0)
    },
  )
})

import { exportAdapter } from '@graft/convert/export-adapter.ts'
import { importAdapter } from '@graft/convert/import-adapter.ts'
import { readSafetensors, type Tensor, writeSafetensors } from '@graft/sdk/format/safetensors.ts'
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { baseOf, sourceOf } from './fixtures.ts'

const BYTES = { F32: 4, F16: 2, BF16: 2 } as const
type Dtype = keyof typeof BYTES

const configOf = (name: string) =>
  JSON.parse(new TextDecoder().decode(sourceOf(name).get('adapter_config.json')))

/** Small positive numbers of any of the dtypes; which ones plays no part. */
const tensor = (dtype: Dtype, shape: number[], seed: number): Tensor => {
  const bytes = shape.reduce((n, dim) => n * dim, BYTES[dtype])
  return { dtype, shape, data: new Uint8Array(bytes).map((_, i) => 1 + ((i * seed) % 57)) }
}

const folder = (config: object, tensors: Map<string, Tensor>) =>
  new Map([
    ['adapter_config.json', new TextEncoder().encode(JSON.stringify(config, null, 2))],
    ['adapter.safetensors', writeSafetensors(tensors)],
  ])

const imported = async (base: string, files: Map<string, Uint8Array>) =>
  importAdapter({ files, base: await baseOf(base), name: '@a/x', version: '1.0.0' })

it('export(import(x)) = x for LoRA of any rank, alpha, dtype, matrices and layers', async () => {
  const written = configOf('llama-lora')
  await fc.assert(
    fc.asyncProperty(
      fc.record({
        r: fc.integer({ min: 1, max: 20 }),
        alpha: fc.oneof(
          fc.integer({ min: 1, max: 64 }),
          fc.double({ min: 0.01, max: 64, noNaN: true }),
        ),
        dtype: fc.constantFrom<Dtype>('F32', 'F16', 'BF16'),
        matrices: fc.shuffledSubarray(['q', 'k', 'v'], { minLength: 1 }),
        leave_out: fc.constantFrom<number[]>([], [0], [1]),
        seed: fc.integer({ min: 1, max: 56 }),
      }),
      async ({ r, alpha, dtype, matrices, leave_out, seed }) => {
        const config = {
          ...written,
          config: {
            ...written.config,
            ...{ r, alpha, leave_out, attn_matrices: matrices },
            ...{ intermediate_lora: false, output_lora: false },
          },
        }
        const tensors = new Map<string, Tensor>()
        for (const layer of [0, 1].filter((l) => !leave_out.includes(l)))
          for (const letter of matrices) {
            const path = `model.layers.${layer}.self_attn.${letter}_proj.loras.task`
            tensors.set(`${path}.lora_A`, tensor(dtype, [r, 16], seed))
            tensors.set(`${path}.lora_B`, tensor(dtype, [letter === 'q' ? 16 : 8, r], seed))
          }
        const files = folder(config, tensors)
        const made = await imported('llama', files)
        expect(await exportAdapter(made)).toEqual(files)
        expect(made.report.scales.map(Number)).toEqual([alpha / r])
      },
    ),
    { numRuns: 60 },
  )
})

it('export(import(x)) = x for fused q, k, v of any choice, as LoRA and as IA3', async () => {
  const written = configOf('gpt2-lora')
  await fc.assert(
    fc.asyncProperty(
      fc.record({
        r: fc.integer({ min: 1, max: 9 }),
        dtype: fc.constantFrom<Dtype>('F32', 'F16', 'BF16'),
        matrices: fc.shuffledSubarray(['q', 'k', 'v'], { minLength: 1 }),
        scale: fc.boolean(),
        seed: fc.integer({ min: 1, max: 56 }),
      }),
      async ({ r, dtype, matrices, scale, seed }) => {
        const [rank, parts] = [scale ? 1 : r, matrices.length]
        const mode = scale ? { composition_mode: 'scale', alpha: 1 } : { alpha: 4 }
        const config = {
          ...written,
          config: {
            ...written.config,
            ...{ r: rank, attn_matrices: matrices, ...mode },
            ...{ intermediate_lora: false, output_lora: false },
          },
        }
        const tensors = new Map<string, Tensor>()
        for (const layer of [0, 1]) {
          const path = `transformer.h.${layer}.attn.c_attn.loras.task`
          if (!scale) tensors.set(`${path}.lora_A`, tensor(dtype, [rank * parts, 16], seed))
          tensors.set(`${path}.lora_B`, tensor(dtype, [16 * parts, rank], seed))
        }
        const files = folder(config, tensors)
        const made = await imported('gpt2', files)
        expect(await exportAdapter(made)).toEqual(files)
        const canonical = readSafetensors(made.safetensors).tensors
        const shape = scale ? [48] : [48, rank * parts]
        const slot = scale ? 'ia3.l' : 'lora.B'
        expect(canonical.get(`transformer.h.0.attn.c_attn::${slot}`)?.shape).toEqual(shape)
      },
    ),
    { numRuns: 60 },
  )
})

it('export(import(x)) = x for prefixes of any length and dtype, and the record of them stays small', async () => {
  const written = configOf('llama-prefix')
  await fc.assert(
    fc.asyncProperty(
      fc.record({
        prefix_length: fc.integer({ min: 1, max: 12 }),
        dtype: fc.constantFrom<Dtype>('F32', 'F16', 'BF16'),
        copies: fc.integer({ min: 0, max: 2 }),
        seed: fc.integer({ min: 1, max: 56 }),
      }),
      async ({ prefix_length, dtype, copies, seed }) => {
        const config = { ...written, config: { ...written.config, prefix_length } }
        const control = tensor(dtype, [prefix_length * 4 * 2 * 4], seed)
        const tail = 'prefix_tunings.task.self_prefix.control_trans'
        const keys = [
          `model.prefix_tuning.${tail}`,
          ...[0, 1].map((layer) => `model.layers.${layer}.self_attn.prefix_tuning.pool.${tail}`),
        ]
        const files = folder(
          config,
          new Map(keys.slice(0, 1 + copies).map((key) => [key, control])),
        )
        const made = await imported('llama', files)
        expect(await exportAdapter(made)).toEqual(files)
        expect(made.manifest.operations).toHaveLength(2)
        // Copies are one row each, whatever the prefix is split into.
        expect(made.manifest.origin!.keyMap).toHaveLength(4 + copies)
      },
    ),
    { numRuns: 40 },
  )
})

import { exportAdapter } from '@graft/convert/export-adapter.ts'
import { importAdapter } from '@graft/convert/import-adapter.ts'
import { type Tensor, writeSafetensors } from '@graft/sdk/format/safetensors.ts'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { baseNamed, folderOf, lowRanks } from './low-rank.ts'

/** Bytes of an element. */
const BYTES = { F64: 8, F32: 4, F16: 2, BF16: 2 } as const
type Dtype = keyof typeof BYTES

/** Values that are finite and not zero in every dtype, F64's also when they are read as f32. */
const tensor = (dtype: Dtype, shape: number[], seed: number): Tensor => {
  const count = shape.reduce((n, dim) => n * dim, 1)
  if (dtype === 'F64') {
    const values = Float64Array.from({ length: count }, (_, i) => (((seed + i * 7) % 27) + 1) / 32)
    return { dtype, shape, data: new Uint8Array(values.buffer) }
  }
  const data = Uint8Array.from(
    { length: count * BYTES[dtype] },
    (_, i) => 0x20 + ((seed + i * 7) % 27),
  )
  return { dtype, shape, data }
}

const config = (of: string, changes: Record<string, unknown>) => {
  const text = new TextDecoder().decode(folderOf(of).get('adapter_config.json'))
  return new TextEncoder().encode(JSON.stringify({ ...JSON.parse(text), ...changes }, null, 2))
}

async function comesBack(
  base: Awaited<ReturnType<typeof baseNamed>>,
  configBytes: Uint8Array,
  tensors: [string, Tensor][],
) {
  const files = new Map([
    ['adapter_config.json', configBytes],
    ['adapter_model.safetensors', writeSafetensors(new Map(tensors), { format: 'pt' })],
  ])
  const made = await importAdapter({ files, base, name: '@a/x', version: '1.0.0' })
  expect(await exportAdapter(made)).toEqual(files)
  expect(made.report.byteExact).toBe(true)
  // Nothing is stored twice: what the canonical file holds beyond the source is names of tensors.
  const held = made.manifest.tensors.reduce(
    (n, { shape }) => n + shape.reduce((a, d) => a * d, 1),
    0,
  )
  return { operations: lowRanks(made.manifest.operations), held }
}

const dtype = fc.constantFrom<Dtype>('F64', 'F32', 'F16', 'BF16')
const rank = fc.integer({ min: 1, max: 7 })
const seed = fc.integer({ min: 0, max: 1000 })
const RUNS = { numRuns: 60 }
const SIZES = {
  'self_attn.q_proj': [32, 32],
  'self_attn.v_proj': [32, 16],
  'mlp.down_proj': [48, 32],
}
const pathOf = (layer: number, name: string) => `model.layers.${layer}.${name}`

describe('export(import(x)) = x', () => {
  it('for LoRA of any ranks, patterns, dtypes, with an embedding and a head', async () => {
    const base = await baseNamed('llama')
    const names = Object.keys(SIZES) as (keyof typeof SIZES)[]
    await fc.assert(
      fc.asyncProperty(
        fc.record({
          r: rank,
          rsLora: fc.boolean(),
          own: fc.dictionary(fc.constantFrom(...names.map((name) => name.split('.')[1]!)), rank),
          alphas: fc.dictionary(
            fc.constantFrom('q_proj', String.raw`layers\.1\..*`, 'embed_tokens'),
            fc.integer({ min: 1, max: 64 }),
          ),
          embedding: fc.boolean(),
          dtype,
          seed,
        }),
        async ({ r, rsLora, own, alphas, embedding, dtype, seed }) => {
          const tensors: [string, Tensor][] = []
          const add = (key: string, shape: number[]) =>
            tensors.push([`base_model.model.${key}`, tensor(dtype, shape, seed + tensors.length)])
          for (const layer of [0, 1])
            for (const name of names) {
              const path = pathOf(layer, name)
              const [inside, out] = SIZES[name] as [number, number]
              const rank = own[name.split('.')[1]!] ?? r
              add(`${path}.lora_A.weight`, [rank, inside])
              add(`${path}.lora_B.weight`, [out, rank])
            }
          if (embedding) {
            add('model.embed_tokens.lora_embedding_A', [r, 48])
            add('model.embed_tokens.lora_embedding_B', [32, r])
            add('model.embed_tokens.base_layer.weight', [48, 32])
          }
          const changes = {
            r,
            use_rslora: rsLora,
            rank_pattern: own,
            alpha_pattern: alphas,
            target_modules: [
              ...names.map((name) => name.split('.')[1]!),
              ...(embedding ? ['embed_tokens'] : []),
            ],
          }
          const { operations } = await comesBack(base, config('lora-gaussian', changes), tensors)
          expect(operations).toHaveLength(embedding ? 7 : 6)
        },
      ),
      RUNS,
    )
  })

  it('for AdaLoRA, whatever its allocator kept', async () => {
    const base = await baseNamed('llama')
    const kept = fc.array(fc.boolean(), { minLength: 5, maxLength: 5 })
    await fc.assert(
      fc.asyncProperty(
        fc.record({
          kept: fc.tuple(kept, kept, kept, kept).filter((all) => all.flat().some(Boolean)),
          dtype,
          alpha: fc.integer({ min: 0, max: 64 }),
          seed,
        }),
        async ({ kept, dtype, alpha, seed }) => {
          const paths = [0, 1].flatMap((layer) =>
            ['self_attn.q_proj', 'mlp.down_proj'].map((name) => ({
              path: pathOf(layer, name),
              name,
            })),
          )
          const tensors = paths.flatMap(({ path, name }, i): [string, Tensor][] => {
            const [inside, out] = SIZES[name as keyof typeof SIZES] as [number, number]
            const r = kept[i]!.filter(Boolean).length
            return Object.entries({ A: [r, inside], B: [out, r], E: [r, 1] }).map(
              ([part, shape]) => [
                `base_model.model.${path}.lora_${part}`,
                tensor(dtype, shape, seed + i),
              ],
            )
          })
          const rank_pattern = Object.fromEntries(
            paths.map(({ path }, i) => [`${path}.lora_E`, kept[i]]),
          )
          const changes = { init_r: 5, lora_alpha: alpha, rank_pattern }
          const text = config('adalora-resized', changes)
          const { operations } = await comesBack(base, text, tensors)
          expect(operations.map(({ rank }) => rank)).toEqual(
            expect.arrayContaining(kept.map((one) => one.filter(Boolean).length).filter(Boolean)),
          )
        },
      ),
      RUNS,
    )
  })

  it('for VeRA of any rank and targets, from slices of the widest projections', async () => {
    const base = await baseNamed('llama')
    const names = fc.uniqueArray(
      fc.constantFrom(...(Object.keys(SIZES) as (keyof typeof SIZES)[])),
      {
        minLength: 1,
      },
    )
    await fc.assert(
      fc.asyncProperty(
        fc.record({ names, r: rank, dtype, seed }),
        async ({ names, r, dtype, seed }) => {
          const widest = (side: 0 | 1) => Math.max(...names.map((name) => SIZES[name][side]!))
          const tensors: [string, Tensor][] = [
            ['base_model.vera_A', tensor(dtype, [r, widest(0)], seed)],
            ['base_model.vera_B', tensor(dtype, [widest(1), r], seed + 1)],
            ...[0, 1].flatMap((layer) =>
              names.flatMap((name): [string, Tensor][] => {
                const path = `base_model.model.${pathOf(layer, name)}`
                return [
                  [`${path}.vera_lambda_b`, tensor(dtype, [SIZES[name][1]!], seed + layer)],
                  [`${path}.vera_lambda_d`, tensor(dtype, [r], seed + 5 + layer)],
                ]
              }),
            ),
          ]
          const changes = { r, target_modules: names.map((name) => name.split('.')[1]) }
          const { operations } = await comesBack(base, config('vera', changes), tensors)
          expect(operations).toHaveLength(2 * names.length)
        },
      ),
      RUNS,
    )
  })

  it.each([
    ['gpt-oss', 'lora-experts-gpt-oss', { gate_up_proj: [32, 64], down_proj: [32, 32] }],
    ['mixtral', 'lora-experts-mixtral-v5', { gate_up_proj: [32, 48], down_proj: [24, 32] }],
  ] as const)('for stacked experts of %s on either side', async (on, like, sizes) => {
    const base = await baseNamed(on)
    await fc.assert(
      fc.asyncProperty(
        fc.record({ inner: rank, outer: rank, crossed: fc.boolean(), dtype, seed }),
        async ({ inner, outer, crossed, dtype, seed }) => {
          const side = crossed && on === 'gpt-oss'
          const experts = 'base_model.model.model.layers.0.mlp.experts'
          const wrapper = (depth: string, r: number, [inside, out]: readonly number[]) =>
            Object.entries({
              A: [r * 3, side ? out! : inside!],
              B: [side ? inside! : out!, r * 3],
            }).map(([part, shape], i): [string, Tensor] => [
              `${experts}${depth}.lora_${part}.weight`,
              tensor(dtype, shape, seed + i + r),
            ])
          const tensors = [
            ...wrapper('.base_layer', inner, sizes.gate_up_proj),
            ...wrapper('', outer, sizes.down_proj),
          ]
          const changes = {
            target_modules: [],
            rank_pattern: { gate_up_proj: inner, down_proj: outer },
          }
          const { operations, held } = await comesBack(base, config(like, changes), tensors)
          expect(operations).toHaveLength(on === 'gpt-oss' ? 2 : 9)
          const elements = tensors.reduce((n, [, { shape }]) => n + shape[0]! * shape[1]!, 0)
          expect(held).toBe(elements)
        },
      ),
      RUNS,
    )
  })
})

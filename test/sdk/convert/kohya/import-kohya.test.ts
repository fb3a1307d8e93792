import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { createNames } from '@graft/convert/kohya/names.ts'
import { createBaseSites } from '@graft/sdk/format/base-sites.ts'
import { readSafetensors, type Tensor, writeSafetensors } from '@graft/sdk/format/safetensors.ts'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { baseNamed, expectedOf, HERE, importFixture, probeOf, weightsOf } from './fixtures.ts'

/** Changes the tensors and the metadata of a fixture's one file. */
const edited =
  (
    name: string,
    change: (tensors: Map<string, Tensor>, metadata: Record<string, string>) => void,
  ) =>
  (files: Map<string, Uint8Array>): void => {
    const [path, bytes] = weightsOf(name)
    const { tensors, metadata } = readSafetensors(bytes)
    const copy = { ...metadata }
    change(tensors, copy)
    files.set(path, writeSafetensors(tensors, copy))
  }

const f32 = (shape: number[], values: number[]): Tensor => ({
  dtype: 'F32',
  shape,
  data: new Uint8Array(Float32Array.from(values).buffer),
})

const kohyaName = (site: string): string =>
  site
    .replace(/^text_encoder\./, 'lora_te_')
    .replace(/^unet\./, 'lora_unet_')
    .replaceAll('.', '_')

describe('what the tools compute', () => {
  it.each([
    ['kohya-sd', 85, 'lora', []],
    ['kohya-alphas', 85, 'lora', []],
    ['diffusers-metadata', 43, 'lora', ['diffusers', 'rslora']],
    ['diffusers-plain', 35, 'lora', ['diffusers', 'scale_assumed']],
    ['diffusers-old', 26, 'lora', ['diffusers', 'scale_assumed']],
    ['diffusers-kohya', 43, 'lora', []],
    ['lycoris-lora', 4, 'lora', []],
    ['lycoris-dora', 4, 'dora', []],
    ['lycoris-loha', 4, 'loha', []],
    ['lycoris-lokr', 4, 'lokr', []],
  ])(
    '%s: every delta is the one that diffusers or LyCORIS computed',
    async (name, modules, family, flags) => {
      const { manifest, safetensors, report } = await importFixture(name)
      expect([manifest.operations.length, report.family, report.flags]).toEqual([
        modules,
        family,
        flags,
      ])
      expect(report.byteExact).toBe(true)
      const { tensors } = readSafetensors(safetensors)
      const expected = expectedOf(name)
      for (const op of manifest.operations) {
        const want =
          expected.get(`probe.${op.site}`) ?? expected.get(`probe.${kohyaName(op.site)}`)!
        const got = probeOf(op, tensors, expected.get(`before.${op.site}`)?.data)
        const size = Math.max(...want.data.map(Math.abs))
        for (const [row, value] of want.data.entries())
          expect(Math.abs(got[row]! - value), `${op.site} row ${row}`).toBeLessThan(
            size * 2e-6 + 1e-6,
          )
      }
    },
  )

  it('keeps scales as decimals and kernels of convolutions, and takes an alpha of 0 or none as the rank', async () => {
    const { manifest } = await importFixture('kohya-alphas')
    const at = (site: string) => manifest.operations.find((op) => op.site === site)!
    expect(at('unet.conv_in')).toMatchObject({
      op: 'low_rank',
      rank: 1,
      kernel: [3, 3],
      in: 4,
      out: 4,
    })
    const scales = new Set(manifest.operations.map((op) => op.op === 'low_rank' && op.scale))
    // 0.3 in f16 is 0.300048828125, over rank 2 and 1.
    expect([...scales].sort()).toEqual(
      ['0.1500244140625', '0.25', '0.300048828125', '0.5', '1', '1.5', '3'].sort(),
    )
    expect(manifest.origin?.literals?.[0]).toMatchObject({ dtype: 'F16', shape: [] })
  })
})

describe('names', () => {
  it('gives every module of an SDXL-like UNet the name by which diffusers knows it', () => {
    const names: Record<string, string[]> = JSON.parse(
      readFileSync(join(HERE, 'sdxl-names/names.json'), 'utf8'),
    )
    const weights = Object.keys(names).map((path) => {
      return { name: `unet.${path}.weight`, dtype: 'F32', shape: [1, 1] }
    })
    const resolve = createNames(createBaseSites(weights, 'diffusers'))
    const ours = (name: string): string | null => {
      try {
        return resolve(`lora_unet_${name}`, 'a key')
      } catch {
        return null
      }
    }
    expect(weights).toHaveLength(83)
    // diffusers takes some numbers that no file has (a downsampler of a level's every index); one is the true one.
    for (const [path, all] of Object.entries(names))
      expect(all.map(ours).filter(Boolean), path).toEqual([`unet.${path}`])
  })

  it('finds back any module of any base, or names all that share its name', () => {
    const segment = fc.stringMatching(/^[a-z][a-z0-9]?(?:_[a-z0-9])?$/)
    const paths = fc.uniqueArray(
      fc.array(segment, { minLength: 1, maxLength: 4 }).map((p) => p.join('.')),
      {
        minLength: 1,
        maxLength: 12,
      },
    )
    fc.assert(
      fc.property(paths, (all) => {
        const weights = all.map((path) => ({ name: `${path}.weight`, dtype: 'F32', shape: [2, 2] }))
        const resolve = createNames(createBaseSites(weights, 'llama'))
        for (const path of all) {
          const alike = all.filter(
            (other) => other.replaceAll('.', '_') === path.replaceAll('.', '_'),
          )
          const name = `lora_unet_${path.replaceAll('.', '_')}`
          if (alike.length === 1) expect(resolve(name, name)).toBe(path)
          else for (const other of alike) expect(() => resolve(name, name)).toThrow(other)
        }
      }),
      { numRuns: 500 },
    )
  })

  it('names both modules where a name is ambiguous, and the key where none fits', async () => {
    const base = await baseNamed('llama')
    const twin = { name: 'model.layers.0.self.attn.q_proj.weight', dtype: 'F32', shape: [32, 32] }
    const sites = createBaseSites([...base.tensors, twin], 'llama')
    const resolve = createNames(sites)
    const name = 'lora_te_model_layers_0_self_attn_q_proj'
    expect(() => resolve(name, 'k')).toThrow(
      /model\.layers\.0\.self_attn\.q_proj and model\.layers\.0\.self\.attn\.q_proj are both called/,
    )
    const alone = createNames(
      createBaseSites(
        [{ name: 'unet.conv_in.weight', dtype: 'F32', shape: [1, 1, 3, 3] }],
        'diffusers',
      ),
    )
    expect(() => alone('lora_te1_x', 'lora_te1_x.alpha')).toThrow(
      /the base that was given has no text_encoder: give the folder of the whole pipeline/,
    )
    expect(() => resolve('lora_te_text_model_x', 'lora_te_text_model_x.alpha')).toThrow(
      /tensor lora_te_text_model_x\.alpha: no module of the base is called text_model_x/,
    )
  })
})

describe('refusals', () => {
  const down = 'lora_te_model_layers_0_mlp_down_proj'
  const add = (slot: string, tensor: Tensor) =>
    edited('lycoris-lora', (tensors) => void tensors.set(`${down}.${slot}`, tensor))
  const cases: [string, string, (files: Map<string, Uint8Array>) => void, string, RegExp][] = [
    [
      'a Tucker core',
      'lycoris-lora',
      add('lora_mid.weight', f32([4, 4], Array(16).fill(1))),
      'ERR_METHOD_UNSUPPORTED',
      /lora_mid.*extract/,
    ],
    [
      'full differences',
      'lycoris-lora',
      add('diff', f32([1], [1])),
      'ERR_METHOD_UNSUPPORTED',
      /full differences/,
    ],
    [
      'diag-OFT',
      'lycoris-lora',
      add('oft_blocks', f32([1], [1])),
      'ERR_METHOD_UNSUPPORTED',
      /diag-OFT/,
    ],
    [
      'an unknown slot',
      'lycoris-lora',
      add('new_thing', f32([1], [1])),
      'ERR_METHOD_UNSUPPORTED',
      /unknown slot "new_thing"/,
    ],
    [
      'column magnitudes',
      'lycoris-lora',
      add('dora_scale', f32([1, 48], Array(48).fill(1))),
      'ERR_METHOD_UNSUPPORTED',
      /wd_on_output=False/,
    ],
    [
      'an alpha of two numbers',
      'lycoris-lora',
      add('alpha', f32([2], [1, 2])),
      'ERR_TENSOR_SHAPE',
      /one number/,
    ],
    [
      'an infinite alpha',
      'lycoris-lora',
      add('alpha', f32([], [Number.POSITIVE_INFINITY])),
      'ERR_WEIGHTS_NON_FINITE',
      /finite/,
    ],
    [
      'another base',
      'lycoris-lora',
      add('lora_down.weight', f32([4, 32], Array(128).fill(1))),
      'ERR_TENSOR_SHAPE',
      /48 -> 32 as in the base/,
    ],
    [
      'a half module',
      'lycoris-lora',
      edited('lycoris-lora', (tensors) => void tensors.delete(`${down}.lora_up.weight`)),
      'ERR_TENSOR_MISSING',
      /no up weight/,
    ],
    [
      'metadata of another adapter',
      'diffusers-metadata',
      edited('diffusers-metadata', (_, metadata) => {
        metadata['lora_adapter_metadata'] = metadata['lora_adapter_metadata']!.replaceAll(
          '"unet.r": 2',
          '"unet.r": 4',
        )
      }),
      'ERR_TENSOR_SHAPE',
      /two adapters/,
    ],
    [
      'a metadata key that is not known',
      'diffusers-metadata',
      edited('diffusers-metadata', (_, metadata) => {
        metadata['lora_adapter_metadata'] = metadata['lora_adapter_metadata']!.replace(
          '"unet.r"',
          '"unet.later": 1, "unet.r"',
        )
      }),
      'ERR_CONFIG_UNKNOWN_KEY',
      /"later"/,
    ],
    [
      'several ranks and no word of scales',
      'diffusers-metadata',
      edited('diffusers-metadata', (_, metadata) => void delete metadata['lora_adapter_metadata']),
      'ERR_CONFIG_INVALID',
      /does not say how they are scaled.*unet_lora_adapter_metadata/,
    ],
    [
      'two files',
      'kohya-sd',
      (files) => void files.set('second.safetensors', weightsOf('kohya-alphas')[1]),
      'ERR_SOURCE_UNKNOWN',
      /2 LoRA files found/,
    ],
  ]
  it.each(cases)('%s', async (_, name, edit, code, message) => {
    await expect(importFixture(name, edit)).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message),
    })
  })
})

import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { importAdapter } from '@graft/convert/import-adapter.ts'
import type { LowRank } from '@graft/sdk/format/operations.ts'
import { readSafetensors, writeSafetensors } from '@graft/sdk/format/safetensors.ts'
import { describe, expect, it } from 'vitest'
import * as peft from '../fixtures.ts'
import { OF_ADAPTERHUB, OF_PEFT, toAdapterHub } from './exports.ts'
import { baseOf, importFixture, READ } from './fixtures.ts'

/** Digests of what AdapterHub itself has loaded: fixtures/exported.py. */
const LOADED: Record<string, Record<string, string>> = JSON.parse(
  readFileSync(join(import.meta.dirname, 'fixtures/exported.json'), 'utf8'),
)

const digests = (files: Map<string, Uint8Array>) =>
  Object.fromEntries(
    [...files].map(([path, bytes]) => [path, createHash('sha256').update(bytes).digest('hex')]),
  )

const configOf = (files: Map<string, Uint8Array>) =>
  JSON.parse(new TextDecoder().decode(files.get('adapter_config.json')))

/** Saves whose every operation has a way out by itself: no head, no fused layer, no factors. */
const WHOLE = READ.filter((name) => !/head|flex|gpt2-(?:lora|ia3)|vera/.test(name))

describe('any adapter to AdapterHub', () => {
  it.each(OF_PEFT)('%s gives the very files that the library has loaded', async (name) => {
    const made = await peft.importFixture(name)
    const { files } = await toAdapterHub(made, { base: await peft.baseOf(name) })
    expect(digests(files)).toEqual(LOADED[name])
  })

  it.each(OF_ADAPTERHUB)('%s, out of its operations, too', async (name) => {
    const { files, losses } = await toAdapterHub(await importFixture(name), {
      base: await baseOf(name),
    })
    expect(digests(files)).toEqual(LOADED[name])
    expect(losses).toEqual([])
  })

  it.each(WHOLE)('%s comes back as the same operations and tensors', async (name) => {
    const made = await importFixture(name)
    const base = await baseOf(name)
    const { files } = await toAdapterHub(made, { base })
    const back = await importAdapter({ files, base, name: '@acme/fixture', version: '1.0.0' })
    const bySite = (one: typeof made) =>
      one.manifest.operations.toSorted((a, b) => (a.op + a.site < b.op + b.site ? -1 : 1))
    expect(bySite(back)).toEqual(bySite(made))
    expect(back.manifest.tensors).toEqual(made.manifest.tensors)
  })

  it('pads ranks, folds scales and says what that costs', async () => {
    const made = await peft.importFixture('peft-lora-patterns')
    const { files, losses, notes } = await toAdapterHub(made, {
      base: await peft.baseOf('peft-lora-patterns'),
    })
    expect(configOf(files).config).toMatchObject({ r: 6, alpha: 9, attn_matrices: ['q'] })
    expect(notes).toEqual(['3 of 4 updates padded with zeros to rank 6'])
    expect(losses.map(({ site, field }) => [site, field])).toEqual([
      ['model.layers.0.self_attn.q_proj', 'scale'],
      ['model.layers.1.self_attn.q_proj', 'scale'],
    ])
    expect(Math.max(...losses.map(({ maxAbsError }) => maxAbsError))).toBeLessThan(1e-7)
  })

  it('fills modules that a config can only name for every layer', async () => {
    const made = await importFixture('llama-lora')
    const operations = made.manifest.operations.filter(
      ({ site }) => site !== 'model.layers.1.self_attn.k_proj',
    )
    const base = await baseOf('llama-lora')
    const less = { ...made, manifest: { ...made.manifest, operations } }
    const { files, notes } = await toAdapterHub(less, { base })
    expect(notes).toEqual(['1 modules that the config names for every layer filled with zeros'])
    const { tensors } = readSafetensors(files.get('adapter.safetensors')!)
    const filled = [...tensors].filter(([, { data }]) => data.every((byte) => byte === 0))
    expect(filled.map(([key]) => key)).toEqual([
      'model.layers.1.self_attn.k_proj.loras.fixture.lora_A',
      'model.layers.1.self_attn.k_proj.loras.fixture.lora_B',
    ])
  })

  it.each([
    ['peft-lora-bias', 'lora_bias'],
    ['peft-dora', "layer's bias"],
    ['peft-ia3', 'multiplies outputs only'],
    ['peft-prefix', 'position 3, in AdapterHub it is 0'],
    ['peft-prompt', 'prompt at model.embed_tokens'],
    ['peft-ln', 'replace at'],
    ['peft-modules-to-save', 'replace at lm_head'],
  ])('refuses %s, naming what has no place: %s', async (name, reason) => {
    const made = await peft.importFixture(name)
    await expect(toAdapterHub(made, { base: await peft.baseOf(name) })).rejects.toMatchObject({
      code: 'ERR_METHOD_UNSUPPORTED',
      message: expect.stringContaining(reason),
    })
  })

  it('refuses modules that the library does not adapt, and a base that is not at hand', async () => {
    const made = await peft.importFixture('peft-lora')
    await expect(toAdapterHub(made, {})).rejects.toMatchObject({ code: 'ERR_REQUEST_INVALID' })
    const site = 'model.layers.0.self_attn.o_proj'
    const op = { ...(made.manifest.operations[0] as LowRank), site }
    const { tensors } = readSafetensors(made.safetensors)
    const other = {
      manifest: { ...made.manifest, operations: [op] },
      safetensors: writeSafetensors(tensors),
    }
    await expect(
      toAdapterHub(other, { base: await peft.baseOf('peft-lora') }),
    ).rejects.toMatchObject({
      code: 'ERR_METHOD_UNSUPPORTED',
      message: expect.stringContaining('no LoRA at self_attn.o_proj'),
    })
  })
})

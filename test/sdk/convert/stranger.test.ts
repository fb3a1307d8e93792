import { exportAdapter } from '@graft/convert/export-adapter.ts'
import { importAdapter } from '@graft/convert/import-adapter.ts'
import { describeBase } from '@graft/sdk/format/base-identity.ts'
import { sha256 } from '@graft/sdk/format/digest.ts'
import { describe, expect, it } from 'vitest'
import { hasData, readData } from '../format/vectors.ts'

const FOLDER = 'formats/gradience-tiny-lora/examples/adapters/tiny_lora'
const present = hasData(FOLDER)

/** Six blocks of GPT-2 small, by their headers alone. */
async function gpt2(linears: Record<string, number[]>) {
  let at = 0
  const rows = Array.from({ length: 6 }, (_, i) => i).flatMap((i) =>
    Object.entries(linears).map(([name, shape]): [string, object] => {
      const begin = at
      at += shape.reduce((n, d) => n * d, 4)
      const offsets = [begin, at]
      return [`transformer.h.${i}.${name}.weight`, { dtype: 'F32', shape, data_offsets: offsets }]
    }),
  )
  const json = new TextEncoder().encode(JSON.stringify(Object.fromEntries(rows)))
  const header = new Uint8Array(8 + json.length)
  new DataView(header.buffer).setBigUint64(0, BigInt(json.length), true)
  header.set(json, 8)
  const config = { architectures: ['GPT2LMHeadModel'], model_type: 'gpt2' }
  return describeBase({
    name: 'gpt2-six',
    configJson: new TextEncoder().encode(JSON.stringify(config)),
    tokenizerJson: null,
    files: [
      {
        path: 'model.safetensors',
        size: header.length + at,
        sha256: await sha256(header),
        header,
      },
    ],
  })
}
const ATTENTION = { 'attn.c_attn': [768, 2304], 'attn.c_proj': [768, 768] }

/** The folder, and its config without the key that PEFT would drop with a warning. */
const source = (drop: string[]) => {
  const config = JSON.parse(new TextDecoder().decode(readData(`${FOLDER}/adapter_config.json`)))
  for (const key of drop) delete config[key]
  return new Map([
    ['adapter_config.json', new TextEncoder().encode(JSON.stringify(config))],
    ['adapter_model.safetensors', readData(`${FOLDER}/adapter_model.safetensors`)],
  ])
}
const NAMED = { name: '@acme/stranger', version: '1.0.0' }

describe.skipIf(!present)('an adapter that a stranger published', () => {
  it('is refused for the key that its author mistook for lora_alpha', async () => {
    const base = await gpt2(ATTENTION)
    await expect(importAdapter({ files: source([]), base, ...NAMED })).rejects.toMatchObject({
      code: 'ERR_CONFIG_UNKNOWN_KEY',
      message: expect.stringContaining('key "alpha"'),
    })
  })

  it('is refused where its targets name layers that it does not adapt', async () => {
    const base = await gpt2({ ...ATTENTION, 'mlp.c_proj': [3072, 768] })
    await expect(importAdapter({ files: source(['alpha']), base, ...NAMED })).rejects.toMatchObject(
      {
        code: 'ERR_TENSOR_MISSING',
        message: expect.stringContaining('transformer.h.0.mlp.c_proj'),
      },
    )
  })

  it('is imported on a base that it covers, with what its config leaves out at its default', async () => {
    const files = source(['alpha'])
    const made = await importAdapter({ files, base: await gpt2(ATTENTION), ...NAMED })
    expect(made.report).toMatchObject({
      toolVersion: null,
      operations: { low_rank: 12 },
      scales: ['2'],
      parameters: 221_184,
    })
    expect((await exportAdapter(made)).get('adapter_config.json')).toEqual(
      files.get('adapter_config.json'),
    )
  })
})

import { globSync, readFileSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { importAdapter } from '@graft/convert/import-adapter.ts'
import { manifestBytes, parseManifest } from '@graft/sdk/format/parse-manifest.ts'
import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import { baseAt, readFolder } from './fixtures.ts'

const SPEC = join(import.meta.dirname, '../../../sdk/format/SPEC.md')
const SCHEMA = join(import.meta.dirname, '../../../sdk/format/manifest.schema.json')
const schema = z.fromJSONSchema(JSON.parse(readFileSync(SCHEMA, 'utf8')))

/** Rows of the section "Methods": what a method compiles to. */
const table = new Map(
  readFileSync(SPEC, 'utf8')
    .split('### Methods')[1]!
    .split('\n## ')[0]!
    .split('\n')
    .filter((line) => /^\| .*`/.test(line))
    .map((line) => {
      const [, method = '', operations = ''] = line.split('|').map((cell) => cell.trim())
      return [method, operations.match(/[a-z_]+/g) ?? []]
    }),
)

/** For each row a save of the real tool (the fixtures' recipes say which) and the base that it was made on. */
const SAVES: Record<string, [save: string, base: string]> = {
  'PEFT LORA, rank_pattern, alpha_pattern': ['fixtures/peft-lora-patterns', 'fixtures/base'],
  'PEFT LORA, use_rslora': ['fixtures/peft-rslora', 'fixtures/base'],
  'PEFT LORA, use_dora': ['fixtures/peft-dora', 'fixtures/base'],
  'PEFT LORA, lora_bias': ['fixtures/peft-lora-bias', 'fixtures/base'],
  'PEFT LORA, bias': ['fixtures/peft-bias-only', 'fixtures/base'],
  'PEFT LORA, modules_to_save': ['fixtures/peft-modules-to-save', 'fixtures/base'],
  'PEFT LORA, trainable_token_indices': ['fixtures/peft-tokens', 'fixtures/base'],
  'PEFT LORA of an embedding': ['peft/fixtures/lora-embedding', 'peft/fixtures/bases/llama'],
  'PEFT LORA of a convolution': ['peft/fixtures/lora-conv', 'peft/fixtures/bases/resnet'],
  'PEFT LORA, target_parameters': [
    'peft/fixtures/lora-experts-llama4',
    'peft/fixtures/bases/llama4',
  ],
  'PEFT LORA, PiSSA or OLoRA after conversion': [
    'peft/fixtures/pissa-converted',
    'peft/fixtures/bases/llama',
  ],
  'PEFT ADALORA': ['peft/fixtures/adalora-no-alpha', 'peft/fixtures/bases/llama'],
  'PEFT VERA': ['peft/fixtures/vera', 'peft/fixtures/bases/llama'],
  'PEFT LOHA': ['peft/dense/fixtures/loha', 'peft/dense/fixtures/base'],
  'PEFT LOKR': ['peft/dense/fixtures/lokr', 'peft/dense/fixtures/base'],
  'PEFT OFT': ['peft/dense/fixtures/oft', 'peft/dense/fixtures/base'],
  'PEFT BOFT': ['peft/dense/fixtures/boft', 'peft/dense/fixtures/base'],
  'PEFT FOURIERFT': ['peft/dense/fixtures/fourierft', 'peft/dense/fixtures/base'],
  'PEFT IA3': ['fixtures/peft-ia3', 'fixtures/base'],
  'PEFT LN_TUNING': ['fixtures/peft-ln', 'fixtures/base'],
  'PEFT TRAINABLE_TOKENS': ['fixtures/peft-trainable-tokens', 'fixtures/base'],
  'PEFT PREFIX_TUNING': ['fixtures/peft-prefix', 'fixtures/base'],
  'PEFT PROMPT_TUNING': ['fixtures/peft-prompt', 'fixtures/base'],
  'PEFT P_TUNING': ['fixtures/peft-ptuning', 'fixtures/base'],
  'AdapterHub seq_bn': ['fixtures/ah-seq-bn', 'fixtures/base'],
  'AdapterHub double_seq_bn': ['fixtures/ah-double-seq-bn', 'fixtures/base'],
  'AdapterHub par_bn': ['fixtures/ah-par-bn', 'fixtures/base'],
  'AdapterHub adapter_plus': ['fixtures/ah-adapter-plus', 'fixtures/base'],
  'AdapterHub LoRA': ['adapterhub/fixtures/llama-lora', 'adapterhub/fixtures/base-llama'],
  'AdapterHub LoRA, use_dora': ['adapterhub/fixtures/plain-dora', 'adapterhub/fixtures/base-plain'],
  'AdapterHub LoRA, vera_d and vera_b': [
    'adapterhub/fixtures/plain-vera-diagonal',
    'adapterhub/fixtures/base-plain',
  ],
  'AdapterHub IA3': ['adapterhub/fixtures/llama-ia3', 'adapterhub/fixtures/base-llama'],
  'AdapterHub prefix_tuning': [
    'adapterhub/fixtures/llama-prefix',
    'adapterhub/fixtures/base-llama',
  ],
  'AdapterHub union (MAM)': ['adapterhub/fixtures/llama-mam', 'adapterhub/fixtures/base-llama'],
  'AdapterHub LoRA with a head': [
    'adapterhub/fixtures/llama-lora-head',
    'adapterhub/fixtures/base-llama',
  ],
  'GGUF LoRA': ['gguf/fixtures/llama/lora.gguf', 'gguf/fixtures/llama/base'],
  'MLX LoRA': ['mlx/fixtures/llama-trained', 'mlx/fixtures/base-llama'],
  'MLX DoRA': ['mlx/fixtures/llama-trained-dora', 'mlx/fixtures/base-llama'],
  'Kohya LoRA': ['kohya/fixtures/kohya-alphas', 'kohya/fixtures/base-pipeline'],
  'LyCORIS LoCon': ['kohya/fixtures/lycoris-lora', 'kohya/fixtures/base-llama'],
  'LyCORIS LoCon, dora_scale': ['kohya/fixtures/lycoris-dora', 'kohya/fixtures/base-llama'],
  'LyCORIS LoHa': ['kohya/fixtures/lycoris-loha', 'kohya/fixtures/base-llama'],
  'LyCORIS LoKr': ['kohya/fixtures/lycoris-lokr', 'kohya/fixtures/base-llama'],
  'diffusers LoRA': ['kohya/fixtures/diffusers-metadata', 'kohya/fixtures/base-pipeline'],
  'ORT .onnx_adapter': ['onnx/fixtures/peft-lora.onnx_adapter', 'fixtures/base'],
}

async function imported(save: string, base: string) {
  const at = (path: string) => join(import.meta.dirname, path)
  const files = statSync(at(save)).isFile()
    ? new Map([[save.slice(save.lastIndexOf('/') + 1), new Uint8Array(readFileSync(at(save)))]])
    : readFolder(at(save))
  const config = JSON.parse(readFileSync(join(at(base), 'config.json'), 'utf8'))
  const made = { ...(await baseAt(at(base), 'fixture')), config }
  return importAdapter({ files, base: made, name: '@acme/fixture', version: '1.0.0' })
}

/** Every base and every save among the fixtures of all tools, the bases of a folder of fixtures for all its saves. */
function everySave(): [save: string, bases: string[]][] {
  const found = (pattern: string) =>
    globSync(pattern, { cwd: import.meta.dirname }).map((path) => path.replaceAll('\\', '/'))
  const bases = found('**/fixtures/**/base*/**/config.json').map((path) => dirname(path))
  const folders = found('**/fixtures/**/*.safetensors')
    .filter((path) => !/expected|golden|\/base/.test(path))
    .map((path) => dirname(path))
  const files = found('**/fixtures/**/*.{gguf,onnx_adapter}')
  return [...new Set(folders), ...files].sort().map((save) => {
    const root = /^(.*?fixtures)\//.exec(save)![1]!
    return [save, bases.filter((base) => base.startsWith(`${root}/`))]
  })
}

describe('the schema of a manifest', () => {
  it('accepts what is imported of every save, and the specification names every transform', async () => {
    let valid = 0
    const transforms = new Set<string>()
    for (const [save, bases] of everySave())
      for (const base of bases) {
        const made = await imported(save, base).catch(() => null)
        if (made === null) continue
        expect(schema.safeParse(made.manifest).error, `${save} on ${base}`).toBeUndefined()
        for (const { transform } of made.manifest.origin?.keyMap ?? [])
          transforms.add(transform.split(' ')[0]!)
        valid++
        break
      }
    expect(valid).toBeGreaterThan(120)
    const listed = readFileSync(SPEC, 'utf8').split('| transform ')[1]!.split('\n\n')[0]!
    const names = [...listed.matchAll(/^\| `([a-z]+)/gm)].map(([, name]) => name!)
    expect([...transforms].sort()).toEqual(names.sort())
  })
})

describe('the methods of SPEC.md', () => {
  it('are those that have a test here', () => {
    expect([...table.keys()]).toEqual(Object.keys(SAVES))
  })

  it.each(Object.entries(SAVES))('%s', async (method, [save, base]) => {
    const { manifest } = await imported(save, base)
    const kinds = [...new Set(manifest.operations.map(({ op }) => op))]
    expect(kinds.sort()).toEqual([...table.get(method)!].sort())
    expect(parseManifest(manifestBytes(manifest))).toEqual(manifest)
    expect(schema.safeParse(manifest).error).toBeUndefined()
  })
})

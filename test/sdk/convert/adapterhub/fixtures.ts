import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { importAdapter } from '@graft/convert/import-adapter.ts'
import { baseAt, readFolder, tensorsOf, type Values } from '../fixtures.ts'

const HERE = join(import.meta.dirname, 'fixtures')

/** Folders of saves, by what the tests expect of them. */
export const SAVES: readonly string[] = readdirSync(HERE, { withFileTypes: true })
  .filter((entry) => entry.isDirectory() && !entry.name.startsWith('base-'))
  .map(({ name }) => name)

/** What Graft refuses of the library's own saves, and a word of the reason. */
export const REFUSED: Readonly<Record<string, string>> = {
  'llama-compacter': 'phm_layer',
  'llama-reft': 'reft',
  'llama-fusion': 'AdapterFusion',
  'llama-vera': 'whole matrix',
  'llama-lora-gated': 'use_gating',
  'llama-dora': 'bias',
  'llama-prefix-deep': 'control_trans(p.wte.weight)',
  'llama-class-head': 'classification',
  'llama-flex-head': '2 layers',
  'bert-prompt': 'prompt_tuning',
}

export const READ: readonly string[] = SAVES.filter((name) => !(name in REFUSED))

export const sourceOf = (name: string): Map<string, Uint8Array> => readFolder(join(HERE, name))

/** The base that a fixture was made on, with its config.json. */
export async function baseOf(fixture: string) {
  const folder = join(HERE, `base-${fixture.split('-')[0]}`)
  const config = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8'))
  return { ...(await baseAt(folder, 'base')), config }
}

export async function importFixture(
  name: string,
  edit: (files: Map<string, Uint8Array>) => void = () => {},
  base?: Awaited<ReturnType<typeof baseOf>>,
) {
  const files = sourceOf(name)
  edit(files)
  return importAdapter({
    files,
    base: base ?? (await baseOf(name)),
    name: '@acme/fixture',
    version: '1.0.0',
  })
}

/** What the library computed for a fixture. */
export const expectedOf = (name: string): Map<string, Values> =>
  tensorsOf(new Uint8Array(readFileSync(join(HERE, name, 'expected.safetensors'))))

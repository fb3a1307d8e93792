import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { type ImportOptions, importAdapter } from '@graft/convert/import-adapter.ts'
import { type BaseDescription, describeBase } from '@graft/sdk/format/base-identity.ts'
import { sha256 } from '@graft/sdk/format/digest.ts'
import { toFloat32 } from '@graft/sdk/format/dtypes.ts'
import { readSafetensors, type Tensor } from '@graft/sdk/format/safetensors.ts'

const HERE = join(import.meta.dirname, 'fixtures')
export const SAMPLES = join(import.meta.dirname, '../../../infra/samples')

const read = (path: string): Uint8Array => new Uint8Array(readFileSync(path))

/** A folder's files by name, without what the tests themselves compare with. */
export function readFolder(folder: string): Map<string, Uint8Array> {
  const names = readdirSync(folder).filter(
    (name) => name !== 'expected.safetensors' && statSync(join(folder, name)).isFile(),
  )
  return new Map(names.map((name) => [name, read(join(folder, name))]))
}

export const fixtures = (prefix: string): string[] =>
  readdirSync(HERE).filter((name) => name.startsWith(`${prefix}-`))

export const sourceOf = (name: string): Map<string, Uint8Array> => readFolder(join(HERE, name))

export async function baseAt(folder: string, name: string): Promise<BaseDescription> {
  const weights = existsSync(join(folder, 'header.bin')) ? 'header.bin' : 'model.safetensors'
  const header = read(join(folder, weights))
  const size =
    weights === 'header.bin'
      ? JSON.parse(readFileSync(join(folder, 'size.json'), 'utf8')).size
      : header.length
  return describeBase({
    name,
    configJson: read(join(folder, 'config.json')),
    tokenizerJson: null,
    files: [{ path: 'model.safetensors', size, sha256: await sha256(header), header }],
  })
}

export const fixtureBase = (name = 'base') => baseAt(join(HERE, name), name)

/** The base that a fixture was made on. */
export const baseOf = (fixture: string) =>
  fixtureBase(
    fixture.endsWith('gpt2') ? 'base-gpt2' : fixture.endsWith('tied') ? 'base-tied' : 'base',
  )

const FIXED = { name: '@acme/fixture', version: '1.0.0' }

/** Imports a fixture's files, changed by `edit`, on the base that it was made on. */
export async function importFixture(
  name: string,
  edit: (files: Map<string, Uint8Array>) => void = () => {},
  options: Partial<ImportOptions> = {},
) {
  const files = sourceOf(name)
  edit(files)
  const base = await baseOf(name)
  return importAdapter({ files, base, ...FIXED, ...options })
}

export interface Values {
  shape: number[]
  data: Float32Array
}
const values = (tensors: Map<string, Tensor>): Map<string, Values> =>
  new Map([...tensors].map(([n, t]) => [n, { shape: t.shape, data: toFloat32(t.dtype, t.data) }]))

export const tensorsOf = (bytes: Uint8Array): Map<string, Values> =>
  values(readSafetensors(bytes).tensors)

/** What the peer computed for a fixture. */
export const expectedOf = (name: string): Map<string, Values> =>
  tensorsOf(read(join(HERE, name, 'expected.safetensors')))

export const baseWeights = (): Map<string, Values> =>
  tensorsOf(read(join(HERE, 'base/model.safetensors')))

/** Sets or, with undefined, removes keys of adapter_config.json. */
export const withConfig =
  (changes: Record<string, unknown>, inside?: string) =>
  (files: Map<string, Uint8Array>): void => {
    const config = JSON.parse(new TextDecoder().decode(files.get('adapter_config.json')))
    const target = inside === undefined ? config : config[inside]
    for (const [key, value] of Object.entries(changes)) target[key] = value
    files.set('adapter_config.json', new TextEncoder().encode(JSON.stringify(config)))
  }

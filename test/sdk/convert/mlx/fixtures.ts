import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { importAdapter } from '@graft/convert/import-adapter.ts'
import { baseAt, readFolder, tensorsOf, type Values } from '../fixtures.ts'

const HERE = join(import.meta.dirname, 'fixtures')

/** Adapters that mlx-lm trained or saved. */
export const SAVES: readonly string[] = readdirSync(HERE, { withFileTypes: true })
  .filter((entry) => entry.isDirectory() && !/^(?:base-|exported)/.test(entry.name))
  .map(({ name }) => name)

export const sourceOf = (name: string): Map<string, Uint8Array> => readFolder(join(HERE, name))

export const baseNamed = (name: string) => baseAt(join(HERE, `base-${name}`), name)

/** The base that a fixture was made on. */
export const baseOf = (fixture: string) => baseNamed(fixture.split('-')[0]!)

const FIXED = { name: '@acme/fixture', version: '1.0.0' }

export async function importFixture(
  name: string,
  edit: (files: Map<string, Uint8Array>) => void = () => {},
  base?: Awaited<ReturnType<typeof baseOf>>,
) {
  const files = sourceOf(name)
  edit(files)
  return importAdapter({ files, base: base ?? (await baseOf(name)), ...FIXED })
}

/** What mlx computed for a fixture. */
export const expectedOf = (name: string): Map<string, Values> =>
  tensorsOf(new Uint8Array(readFileSync(join(HERE, name, 'expected.safetensors'))))

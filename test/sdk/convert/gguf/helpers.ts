import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { exportTo, openAdapter } from '@graft/convert/export-adapter.ts'
import { importAdapter } from '@graft/convert/import-adapter.ts'
import type { ConfigObject, ImportBase } from '@graft/convert/source-format.ts'
import { heldBytes, readAll } from '@graft/sdk/format/byte-source.ts'
import type { Manifest } from '@graft/sdk/format/manifest.ts'
import { baseAt, readFolder } from '../fixtures.ts'

const HERE = join(import.meta.dirname, 'fixtures')

/** Families that make.py wrote. */
export const FAMILIES = readdirSync(HERE).sort()

export const bytesOf = (path: string): Uint8Array => new Uint8Array(readFileSync(path))

const configOf = (folder: string): ConfigObject =>
  JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8'))

/** A base with its config.json, which GGUF needs. */
export async function baseIn(folder: string): Promise<ImportBase> {
  return { ...(await baseAt(folder, 'tiny')), config: configOf(folder) }
}

export const baseOf = (family: string): Promise<ImportBase> => baseIn(join(HERE, family, 'base'))

export const ggufOf = (family: string): Uint8Array => bytesOf(join(HERE, family, 'lora.gguf'))

export const peftOf = (family: string): Map<string, Uint8Array> =>
  readFolder(join(HERE, family, 'peft'))

const TITLE = { name: '@acme/fixture', version: '1.0.0' }

export const importGguf = async (bytes: Uint8Array, base: ImportBase, path = 'lora.gguf') =>
  importAdapter({ files: new Map([[path, bytes]]), base, ...TITLE })

export const importPeft = async (files: Map<string, Uint8Array>, base: ImportBase) =>
  importAdapter({ files, base, ...TITLE })

/** An imported adapter as files of a tool. */
export async function exportFiles(
  format: 'gguf' | 'onnx',
  { manifest, safetensors }: { manifest: Manifest; safetensors: Uint8Array },
  base?: ImportBase,
) {
  const adapter = await openAdapter(manifest, heldBytes(safetensors))
  const exported = await exportTo(format, adapter, base ? { base } : {})
  const [file] = exported.files.values()
  return { ...exported, bytes: await readAll(file!) }
}

/** A GGUF for the tiny Llama, whose base may be changed by `edit`. */
export async function importAdapterOf(
  bytes: Uint8Array,
  edit: (base: ImportBase) => unknown = () => {},
) {
  const base = await baseOf('llama')
  edit(base)
  return importGguf(bytes, base)
}

import { decodeBase64 } from './base64url.ts'
import { isDtype } from './dtypes.ts'
import { createGuards } from './guards.ts'
import { tensorBytes } from './safetensors.ts'

const { fail, object, exactly, string, text, list, integer, oneOf } =
  createGuards('ERR_MANIFEST_INVALID')

/** File names inside a version: relative, no "..", no empty part, "/" as the only divider. */
export const isRelativePath = (value: string): boolean =>
  /^(?!.*(?:^|\/)\.{1,2}(?:\/|$))[^/\\\0]+(?:\/[^/\\\0]+)*$/.test(value)

const path = (value: unknown, where: string): string =>
  isRelativePath(string(value, where)) ? (value as string) : fail(where, 'a relative path', value)

const FORMATS = ['peft', 'adapters', 'gguf', 'mlx', 'kohya', 'onnx', 'graft'] as const

/** @returns how many bytes it holds */
function base64(value: unknown, where: string): number {
  try {
    return decodeBase64(text(value, where)).length
  } catch {
    return fail(where, 'base64', value)
  }
}

function checkLiteral(item: unknown, where: string): string {
  const row = exactly(item, where, ['key', 'dtype', 'shape', 'data', 'file?'])
  const { dtype } = row
  if (!isDtype(dtype)) return fail(`${where}.dtype`, 'a safetensors dtype', dtype)
  const shape = list(row['shape'], `${where}.shape`).map((dim, i) =>
    integer(dim, `${where}.shape[${i}]`, 0),
  )
  const want = tensorBytes(dtype, shape, where)
  const got = base64(row['data'], `${where}.data`)
  if (got !== want) fail(`${where}.data`, `${want} bytes for ${dtype} [${shape}]`, got)
  if (row['file'] !== undefined) path(row['file'], `${where}.file`)
  return string(row['key'], `${where}.key`)
}

/**
 * The way back to the author's files: every row names a tensor of the table.
 * @throws ERR_MANIFEST_INVALID
 */
export function checkOrigin(value: unknown, tensors: ReadonlyMap<string, unknown>): void {
  if (value === null) return
  const origin = exactly(value, 'origin', [
    ...['format', 'toolVersion', 'config', 'keyMap', 'metadata'],
    ...['metadataOrder?', 'header?', 'literals?', 'files?'],
  ])
  oneOf(origin['format'], 'origin.format', FORMATS)
  if (origin['toolVersion'] !== null) string(origin['toolVersion'], 'origin.toolVersion')
  base64(origin['config'], 'origin.config')
  for (const [i, item] of list(origin['keyMap'], 'origin.keyMap').entries()) {
    const where = `origin.keyMap[${i}]`
    const row = exactly(item, where, ['key', 'tensor', 'transform', 'file?'])
    string(row['key'], `${where}.key`)
    string(row['transform'], `${where}.transform`)
    if (row['file'] !== undefined) path(row['file'], `${where}.file`)
    if (!tensors.has(string(row['tensor'], `${where}.tensor`)))
      fail(`${where}.tensor`, 'a tensor of the table', row['tensor'])
  }
  const metadata = object(origin['metadata'], 'origin.metadata')
  for (const [key, entry] of Object.entries(metadata)) text(entry, `origin.metadata.${key}`)
  if (origin['metadataOrder'] !== undefined) {
    const order = list(origin['metadataOrder'], 'origin.metadataOrder').map(String)
    if ([...order].sort().join('\n') !== Object.keys(metadata).sort().join('\n'))
      fail('origin.metadataOrder', 'the names of origin.metadata, each once', order)
  }
  if (origin['header'] !== undefined) base64(origin['header'], 'origin.header')
  if (origin['literals'] !== undefined)
    for (const [i, item] of list(origin['literals'], 'origin.literals').entries())
      checkLiteral(item, `origin.literals[${i}]`)
  if (origin['files'] !== undefined)
    for (const [i, item] of list(origin['files'], 'origin.files').entries()) {
      const where = `origin.files[${i}]`
      const row = exactly(item, where, ['path', 'data'])
      path(row['path'], `${where}.path`)
      base64(row['data'], `${where}.data`)
    }
}

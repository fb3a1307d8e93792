import { canonicalBytes } from './canonical-json.ts'
import { type Digest, isDigest, sha256 } from './digest.ts'
import { isDtype } from './dtypes.ts'
import { expected, GraftError } from './errors.ts'
import { createGuards, type Fields } from './guards.ts'
import { type BaseIdentity, MANIFEST_SCHEMA, type Manifest } from './manifest.ts'
import type { Operation } from './operations.ts'
import { parseOperation } from './parse-operation.ts'
import { checkOrigin, isRelativePath } from './parse-origin.ts'
import { isPackageName } from './parse-reference.ts'
import { isVersion } from './semver.ts'
import { slotsOf } from './slots.ts'
import { parseStrictJson } from './strict-json.ts'

/** A 70B model adapted at every site with its key map stays below a tenth of this. */
export const MAX_MANIFEST_BYTES = 8 * 1024 * 1024

const { fail, object, exactly, string, text, list, integer, oneOf } =
  createGuards('ERR_MANIFEST_INVALID')

const digest = (value: unknown, where: string): Digest =>
  isDigest(value) ? value : fail(where, '"sha256:" and 64 hex digits', value)

const path = (value: unknown, where: string): string =>
  isRelativePath(string(value, where)) ? (value as string) : fail(where, 'a relative path', value)

function unique(values: readonly string[], where: string): void {
  const seen = new Set<string>()
  for (const value of values) {
    if (seen.has(value)) fail(where, 'named once each', value)
    seen.add(value)
  }
}

/** @throws ERR_MANIFEST_INVALID */
export function parseBaseIdentity(value: unknown, where = 'base'): BaseIdentity {
  const base = exactly(value, where, [
    ...['name', 'architecture', 'modelType', 'files', 'structure', 'structureWithDtype'],
    ...['configDigest', 'tokenizerDigest', 'quantization'],
  ])
  for (const key of ['name', 'architecture', 'modelType']) string(base[key], `${where}.${key}`)
  for (const key of ['structure', 'structureWithDtype', 'configDigest'])
    digest(base[key], `${where}.${key}`)
  if (base['tokenizerDigest'] !== null) digest(base['tokenizerDigest'], `${where}.tokenizerDigest`)
  const paths = list(base['files'], `${where}.files`).map((file, i) => {
    const at = `${where}.files[${i}]`
    const row = exactly(file, at, ['path', 'size', 'sha256'])
    integer(row['size'], `${at}.size`, 1)
    digest(row['sha256'], `${at}.sha256`)
    return path(row['path'], `${at}.path`)
  })
  if (paths.length === 0) fail(`${where}.files`, 'at least one file', paths)
  if (paths.some((p, i) => i > 0 && p <= paths[i - 1]!))
    fail(`${where}.files`, 'sorted by path, each once', paths)
  if (base['quantization'] !== null) {
    const q = exactly(base['quantization'], `${where}.quantization`, ['method', 'bits', 'group'])
    string(q['method'], `${where}.quantization.method`)
    integer(q['bits'], `${where}.quantization.bits`, 1)
    integer(q['group'], `${where}.quantization.group`, 0)
  }
  return base as unknown as BaseIdentity
}

function checkTensors(value: unknown): Map<string, number[]> {
  const rows = list(value, 'tensors').map((item, i): [string, number[]] => {
    const where = `tensors[${i}]`
    const row = exactly(item, where, ['name', 'dtype', 'shape', 'sha256'])
    if (!isDtype(row['dtype'])) fail(`${where}.dtype`, 'a safetensors dtype', row['dtype'])
    digest(row['sha256'], `${where}.sha256`)
    const shape = list(row['shape'], `${where}.shape`)
    return [
      string(row['name'], `${where}.name`),
      shape.map((dim, j) => integer(dim, `${where}.shape[${j}]`, 0)),
    ]
  })
  unique(
    rows.map(([name]) => name),
    'tensors',
  )
  return new Map(rows)
}

const SITE_KINDS_ONCE = new Set(['low_rank', 'magnitude', 'dense', 'prefix', 'prompt'])

/** Slots name tensors of the table, of the shape the operation implies; every tensor is used. */
function checkOperations(value: unknown, tensors: Map<string, number[]>): void {
  const operations = list(value, 'operations').map((op, i) =>
    parseOperation(op, `operations[${i}]`),
  )
  if (operations.length === 0) fail('operations', 'at least one operation', operations)
  const used = new Set<string>()
  const sites = new Set<string>()
  for (const [i, op] of operations.entries()) {
    for (const { slot, tensor, shape } of slotsOf(op)) {
      const where = `operations[${i}].slots.${slot}`
      const got = tensors.get(tensor) ?? fail(where, 'a tensor of the table', tensor)
      if (got.length !== shape.length || got.some((dim, d) => dim !== shape[d]))
        throw new GraftError(
          'ERR_TENSOR_SHAPE',
          expected(`${where}: tensor ${tensor}`, `[${shape}]`, got),
        )
      used.add(tensor)
    }
    const key = siteKey(op)
    if (sites.has(key))
      fail(`operations[${i}].site`, `adapted once by ${key.split(' ')[0]}`, op.site)
    sites.add(key)
  }
  for (const name of tensors.keys())
    if (!used.has(name))
      throw new GraftError('ERR_TENSOR_UNMATCHED', `tensor ${name} is used by no operation`)
}

/** What may stand only once in a manifest: two operations with one key would both claim the same place. */
function siteKey(op: Operation): string {
  // A dense delta, a DoRA and a low rank update of one linear would each redefine it.
  if (SITE_KINDS_ONCE.has(op.op))
    return `${op.op === 'magnitude' || op.op === 'dense' ? 'low_rank' : op.op} ${op.site}`
  if (op.op === 'scale') return `scale ${op.site} ${op.side}`
  if (op.op === 'replace') return `replace ${op.site} ${op.param}`
  return `${op.op} ${op.site} ${op.op === 'bottleneck' ? op.placement : ''}`
}

function checkFiles(value: unknown): void {
  const paths = list(value, 'files').map((item, i) => {
    const where = `files[${i}]`
    const row = exactly(item, where, ['path', 'size', 'sha256', 'role', 'mediaType'])
    integer(row['size'], `${where}.size`, 0)
    digest(row['sha256'], `${where}.sha256`)
    string(row['mediaType'], `${where}.mediaType`)
    oneOf(row['role'], `${where}.role`, ['canonical', 'origin', 'card'])
    return { path: path(row['path'], `${where}.path`), role: row['role'] }
  })
  unique(
    paths.map((file) => file.path),
    'files',
  )
  if (paths.filter((file) => file.role === 'canonical').length !== 1)
    fail('files', 'with one file of role canonical', paths)
}

const KNOWN = new Set([
  ...['schema', 'name', 'version', 'description', 'license', 'keywords', 'base', 'method'],
  ...['operations', 'tensors', 'files', 'origin', 'crit', 'training'],
])

function checkCritical(value: unknown, manifest: Fields): void {
  const names = list(value, 'crit').map((name, i) => string(name, `crit[${i}]`))
  unique(names, 'crit')
  for (const name of names) {
    if (!KNOWN.has(name))
      throw new GraftError(
        'ERR_CRITICAL_UNKNOWN',
        `the manifest demands that "${name}" be understood, and this version does not; upgrade to read it`,
      )
    if (!Object.hasOwn(manifest, name)) fail('crit', 'names of fields that are present', name)
  }
}

/**
 * Checks every field. Unknown top-level fields are kept unless `crit` names them; unknown fields anywhere
 * else are refused. The bytes must be the canonical ones (RFC 8785), so that a manifest has one digest.
 * @throws ERR_MANIFEST_INVALID, ERR_CRITICAL_UNKNOWN, ERR_TENSOR_SHAPE, ERR_TENSOR_UNMATCHED
 */
export function parseManifest(bytes: Uint8Array): Manifest {
  if (bytes.length > MAX_MANIFEST_BYTES)
    fail('manifest', `at most ${MAX_MANIFEST_BYTES} bytes`, bytes.length)
  const json = parseStrictJson(bytes, 'manifest', 'ERR_MANIFEST_INVALID')
  const manifest = checkManifest(json)
  const canonical = manifestBytes(manifest)
  if (canonical.length !== bytes.length || canonical.some((byte, i) => byte !== bytes[i]))
    fail('manifest', 'canonical JSON (RFC 8785)', 'the same JSON written otherwise')
  return manifest
}

/** The same checks on a value already in memory. */
export function checkManifest(value: unknown): Manifest {
  const manifest = object(value, 'manifest')
  oneOf(manifest['schema'], 'schema', [MANIFEST_SCHEMA])
  checkCritical(manifest['crit'], manifest)
  if (!isPackageName(manifest['name'])) fail('name', '@scope/name in lower case', manifest['name'])
  if (!isVersion(manifest['version'])) fail('version', 'a semver version', manifest['version'])
  for (const key of ['description', 'license'])
    if (manifest[key] !== undefined) text(manifest[key], key)
  if (manifest['keywords'] !== undefined)
    for (const [i, word] of list(manifest['keywords'], 'keywords').entries())
      string(word, `keywords[${i}]`)
  parseBaseIdentity(manifest['base'])
  const method = exactly(manifest['method'], 'method', ['family', 'flags'])
  string(method['family'], 'method.family')
  for (const [i, flag] of list(method['flags'], 'method.flags').entries())
    string(flag, `method.flags[${i}]`)
  const tensors = checkTensors(manifest['tensors'])
  checkOperations(manifest['operations'], tensors)
  checkFiles(manifest['files'])
  checkOrigin(manifest['origin'], tensors)
  if (manifest['training'] !== undefined) object(manifest['training'], 'training')
  return manifest as unknown as Manifest
}

/** The bytes of adapter.json. */
export const manifestBytes = (manifest: Manifest): Uint8Array<ArrayBuffer> =>
  canonicalBytes(manifest)

/** sha256 of the canonical bytes: the version's digest. */
export const manifestDigest = (manifest: Manifest): Promise<Digest> =>
  sha256(manifestBytes(manifest))

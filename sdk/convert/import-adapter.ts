import { encodeBase64 } from '@graft/sdk/format/base64url.ts'
import { type ByteSource, heldBytes, readAll, sameBytes } from '@graft/sdk/format/byte-source.ts'
import { checkSlots } from '@graft/sdk/format/check-slots.ts'
import type { CreateHash } from '@graft/sdk/format/digest.ts'
import { GraftError, isGraftError } from '@graft/sdk/format/errors.ts'
import { MANIFEST_SCHEMA, type Manifest } from '@graft/sdk/format/manifest.ts'
import type { OperationKind } from '@graft/sdk/format/operations.ts'
import { checkManifest } from '@graft/sdk/format/parse-manifest.ts'
import {
  type OpenedSafetensors,
  openSafetensors,
  safetensorsSource,
} from '@graft/sdk/format/safetensors-source.ts'
import { scanSafetensors } from '@graft/sdk/format/scan-safetensors.ts'
import { checkSites, refuseZeroEffect } from '@graft/sdk/format/verify-adapter.ts'
import type { Compiled } from './compiled.ts'
import { detectSource } from './detect-source.ts'
import { EXPORTERS } from './formats.ts'
import { convertPickle } from './pickle.ts'
import type { ImportBase, SourceFiles, SourceFormat } from './source-format.ts'

interface Options {
  base: ImportBase
  /** `@scope/name`. */
  name: string
  version: string
  description?: string
  license?: string
  /** The platform's own; with the default one the adapter is held whole. */
  createHash?: CreateHash
}

export interface SourceOptions extends Options {
  /** The folder that a tool saved. */
  files: SourceFiles
}

export interface ImportOptions extends Options {
  /** The folder that a tool saved: paths and bytes. */
  files: ReadonlyMap<string, Uint8Array>
}

export interface ImportReport {
  format: SourceFormat['format']
  toolVersion: string | null
  family: string
  flags: string[]
  /** How many operations of each kind. */
  operations: Partial<Record<OperationKind, number>>
  tensors: number
  parameters: number
  bytes: number
  /** Distinct effective scales. */
  scales: string[]
  /** Config keys that were read and do not reach inference. */
  inertKeys: string[]
  /** Files of the folder that play no part. */
  ignoredFiles: string[]
  /** Export gives the source's weights back byte for byte; otherwise tensor for tensor. */
  byteExact: boolean
}

/** A broken download is told before anything is read of it, with the name of the file. @throws ERR_SAFETENSORS_INVALID */
async function checkHeader(path: string, files: SourceFiles): Promise<void> {
  if (!path.endsWith('.safetensors')) return
  await openSafetensors(files.get(path)!).catch((cause) => {
    if (!isGraftError(cause)) throw cause
    const way = 'download, copy or save the file again'
    throw new GraftError(cause.code, `${path}: ${cause.message}; ${way}`, { cause })
  })
}

/** Weights beside the adapter's that change what the model answers, and so may not be left behind. */
const HEADS =
  /(?:^|\/)(?:pytorch_model_head\.bin|model_head\.safetensors|adapter_fusion_config\.json)$/

function refuseHeads(files: SourceFiles, used: ReadonlySet<string>): void {
  // A pickled head may stay beside the safetensors that was made of it.
  const read = (path: string) =>
    used.has(path) || used.has(path.replace('pytorch_model_head.bin', 'model_head.safetensors'))
  const head = [...files.keys()].find((path) => HEADS.test(path) && !read(path))
  if (head !== undefined)
    throw new GraftError(
      'ERR_METHOD_UNSUPPORTED',
      `${head} holds weights that the adapter may need and that are not supported. ${head.endsWith('.bin') ? `Convert it too: ${convertPickle(head)}. ` : ''}When the head is the base's own, save with with_head=False or leave the file out`,
    )
}

const total = (shape: readonly number[]): number => shape.reduce((n, dim) => n * dim, 1)

async function buildManifest(
  options: Options,
  compiled: Compiled,
  format: SourceFormat['format'],
  opened: OpenedSafetensors,
  size: number,
): Promise<Manifest> {
  const { createHash } = options
  const digests = await scanSafetensors(opened, createHash ? { createHash } : {})
  return checkManifest({
    schema: MANIFEST_SCHEMA,
    name: options.name,
    version: options.version,
    ...(options.description === undefined ? {} : { description: options.description }),
    ...(options.license === undefined ? {} : { license: options.license }),
    base: options.base.identity,
    method: { family: compiled.family, flags: compiled.flags },
    operations: compiled.operations,
    tensors: [...opened.tensors].map(([name, { dtype, shape }]) => {
      return { name, dtype, shape, sha256: digests.tensors.get(name)! }
    }),
    files: [
      {
        path: 'adapter.safetensors',
        size,
        sha256: digests.file,
        role: 'canonical',
        mediaType: 'application/vnd.safetensors',
      },
    ],
    origin: { format, ...compiled.origin },
    crit: [],
    ...(Object.keys(compiled.training).length > 0 ? { training: compiled.training } : {}),
  })
}

/** The source's weights out of the canonical tensors and the origin: what export will give back. */
async function rebuilt(
  source: SourceFormat,
  compiled: Pick<Compiled, 'origin' | 'tensors'>,
  weightsPath: string,
): Promise<ByteSource | undefined> {
  const manifest = { origin: { format: source.format, ...compiled.origin } } as Manifest
  const files = await EXPORTERS[source.format]?.rebuild({ manifest, tensors: compiled.tensors })
  const name = weightsPath.slice(weightsPath.lastIndexOf('/') + 1)
  const weights = [...(files ?? [])].filter(([path]) => !path.endsWith('.json'))
  return (weights.find(([path]) => path === name) ?? weights[0])?.[1]
}

/**
 * Keeps the source's header where its layout is not the one that a writer would choose, so that every byte comes back.
 * @returns whether it does
 */
async function keepLayout(
  source: SourceFormat,
  compiled: Compiled,
  weightsPath: string,
  weights: ByteSource,
): Promise<boolean> {
  const same = async (): Promise<boolean> => {
    const again = await rebuilt(source, compiled, weightsPath)
    return again !== undefined && sameBytes(again, weights)
  }
  if (await same()) return true
  if (compiled.origin.header !== undefined || !weightsPath.endsWith('.safetensors')) return false
  const { header, metadata } = await openSafetensors(weights)
  const { origin } = compiled
  // Often only the metadata stands in another order: its names are far smaller than the header.
  compiled.origin = { ...origin, metadataOrder: Object.keys(metadata) }
  if (Object.keys(metadata).length > 1 && (await same())) return true
  compiled.origin = { ...origin, header: encodeBase64(header) }
  return same()
}

/**
 * Reads what a tool saved and compiles it to operations on the base's sites. The result has passed every check of
 * verifyAdapter against the base's headers. Nothing is held whole: source and result are read tensor by tensor.
 * @throws ERR_SOURCE_UNKNOWN, ERR_PICKLE_REFUSED, ERR_CONFIG_UNKNOWN_KEY, ERR_CONFIG_INVALID,
 *   ERR_METHOD_UNSUPPORTED, ERR_BASE_MUTATED, ERR_TENSOR_*, ERR_SAFETENSORS_INVALID, ERR_WEIGHTS_NON_FINITE,
 *   ERR_ZERO_EFFECT, ERR_MANIFEST_INVALID
 */
export async function importSource(options: SourceOptions): Promise<{
  manifest: Manifest
  safetensors: ByteSource
  report: ImportReport
}> {
  const { files, base } = options
  const { source, detected } = await detectSource(files)
  const { configPath, weightsPath, others = [] } = detected
  const used = new Set([...(configPath === null ? [] : [configPath]), weightsPath, ...others])
  refuseHeads(files, used)
  await checkHeader(weightsPath, files)
  const compiled = await source.import(detected, files, base)
  const byteExact = await keepLayout(source, compiled, weightsPath, files.get(weightsPath)!)
  const safetensors = safetensorsSource(compiled.tensors)
  const opened = await openSafetensors(safetensors)
  const manifest = await buildManifest(options, compiled, source.format, opened, safetensors.size)
  for (const op of manifest.operations) await checkSlots(op, compiled.tensors)
  checkSites(manifest, base.tensors)
  await refuseZeroEffect(manifest, compiled.tensors)
  const operations: ImportReport['operations'] = {}
  for (const { op } of manifest.operations) operations[op] = (operations[op] ?? 0) + 1
  return {
    manifest,
    safetensors,
    report: {
      format: source.format,
      toolVersion: compiled.origin.toolVersion,
      family: compiled.family,
      flags: compiled.flags,
      operations,
      tensors: manifest.tensors.length,
      parameters: manifest.tensors.reduce((n, row) => n + total(row.shape), 0),
      bytes: safetensors.size,
      scales: [...new Set(manifest.operations.flatMap((op) => ('scale' in op ? [op.scale] : [])))],
      inertKeys: compiled.inert,
      ignoredFiles: [...files.keys()].filter((path) => !used.has(path)),
      byteExact,
    },
  }
}

/** The same in memory. @throws as importSource */
export async function importAdapter(options: ImportOptions): Promise<{
  manifest: Manifest
  safetensors: Uint8Array
  report: ImportReport
}> {
  const files = new Map([...options.files].map(([path, bytes]) => [path, heldBytes(bytes)]))
  const { manifest, safetensors, report } = await importSource({ ...options, files })
  return { manifest, safetensors: await readAll(safetensors), report }
}

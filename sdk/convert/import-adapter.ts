import type { BaseTensor } from '@graft/sdk/format/base-identity.ts'
import { createBaseSites } from '@graft/sdk/format/base-sites.ts'
import { encodeBase64 } from '@graft/sdk/format/base64url.ts'
import { type Digest, sha256 } from '@graft/sdk/format/digest.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import { type BaseIdentity, MANIFEST_SCHEMA, type Manifest } from '@graft/sdk/format/manifest.ts'
import type { OperationKind } from '@graft/sdk/format/operations.ts'
import { checkManifest } from '@graft/sdk/format/parse-manifest.ts'
import { readSafetensors, writeSafetensors } from '@graft/sdk/format/safetensors.ts'
import { verifyAdapter } from '@graft/sdk/format/verify-adapter.ts'
import type { Compiled } from './compiled.ts'
import { detectSource, type SourceFiles } from './detect-source.ts'
import { exportAdapter } from './export-adapter.ts'
import { importBottleneck } from './import-bottleneck.ts'
import { importPeft } from './import-peft.ts'

export interface ImportOptions {
  /** The folder that a tool saved: paths and bytes. */
  files: SourceFiles
  base: { identity: BaseIdentity; tensors: readonly BaseTensor[] }
  /** `@scope/name`. */
  name: string
  version: string
  description?: string
  license?: string
}

export interface ImportReport {
  format: 'peft' | 'adapters'
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
  /** Export gives the source's safetensors back byte for byte; otherwise tensor for tensor. */
  byteExact: boolean
}

/** Weights beside the adapter's that change what the model answers, and so may not be left behind. */
const HEADS =
  /(?:^|\/)(?:pytorch_model_head\.bin|model_head\.safetensors|adapter_fusion_config\.json)$/

function refuseHeads(files: SourceFiles, used: ReadonlySet<string>): void {
  const head = [...files.keys()].find((path) => HEADS.test(path) && !used.has(path))
  if (head !== undefined)
    throw new GraftError(
      'ERR_METHOD_UNSUPPORTED',
      `${head} holds weights that the adapter may need and that are not supported. When the head is the base's own, save with with_head=False or leave the file out`,
    )
}

const total = (shape: readonly number[]): number => shape.reduce((n, dim) => n * dim, 1)

async function buildManifest(
  options: ImportOptions,
  compiled: Compiled,
  safetensors: Uint8Array,
  origin: NonNullable<Manifest['origin']>,
): Promise<Manifest> {
  const { tensors } = readSafetensors(safetensors)
  const rows = await Promise.all(
    [...tensors].map(async ([name, { dtype, shape, data }]) => {
      return { name, dtype, shape, sha256: await sha256(data) }
    }),
  )
  const digest: Digest = await sha256(safetensors)
  return checkManifest({
    schema: MANIFEST_SCHEMA,
    name: options.name,
    version: options.version,
    ...(options.description === undefined ? {} : { description: options.description }),
    ...(options.license === undefined ? {} : { license: options.license }),
    base: options.base.identity,
    method: { family: compiled.family, flags: compiled.flags },
    operations: compiled.operations,
    tensors: rows,
    files: [
      {
        path: 'adapter.safetensors',
        size: safetensors.length,
        sha256: digest,
        role: 'canonical',
        mediaType: 'application/vnd.safetensors',
      },
    ],
    origin,
    crit: [],
    ...(Object.keys(compiled.training).length > 0 ? { training: compiled.training } : {}),
  })
}

/**
 * Reads what PEFT or AdapterHub saved and compiles it to operations on the base's sites. The result has passed
 * verifyAdapter against the base's headers.
 * @throws ERR_SOURCE_UNKNOWN, ERR_PICKLE_REFUSED, ERR_CONFIG_UNKNOWN_KEY, ERR_CONFIG_INVALID,
 *   ERR_METHOD_UNSUPPORTED, ERR_BASE_MUTATED, ERR_TENSOR_*, ERR_SAFETENSORS_INVALID, ERR_WEIGHTS_NON_FINITE,
 *   ERR_ZERO_EFFECT, ERR_MANIFEST_INVALID
 */
export async function importAdapter(options: ImportOptions): Promise<{
  manifest: Manifest
  safetensors: Uint8Array<ArrayBuffer>
  report: ImportReport
}> {
  const { files, base } = options
  const source = detectSource(files)
  const used = new Set([source.configPath, source.weightsPath])
  refuseHeads(files, used)
  const weights = files.get(source.weightsPath)!
  const { tensors, metadata } = readSafetensors(weights)
  const sites = createBaseSites(base.tensors, base.identity.modelType)
  const compiled =
    source.format === 'peft'
      ? importPeft(source.config, source.configPath, tensors, sites)
      : importBottleneck(source.config, source.configPath, tensors, sites, base.identity.modelType)
  const safetensors = writeSafetensors(compiled.tensors)
  const manifest = await buildManifest(options, compiled, safetensors, {
    format: source.format,
    toolVersion: compiled.toolVersion,
    config: encodeBase64(files.get(source.configPath)!),
    keyMap: compiled.keyMap,
    metadata,
  })
  await verifyAdapter(manifest, safetensors, base.tensors)
  const operations: ImportReport['operations'] = {}
  for (const { op } of manifest.operations) operations[op] = (operations[op] ?? 0) + 1
  const again = [...exportAdapter({ manifest, safetensors })].find(([path]) =>
    path.endsWith('.safetensors'),
  )![1]
  return {
    manifest,
    safetensors,
    report: {
      format: source.format,
      toolVersion: compiled.toolVersion,
      family: compiled.family,
      flags: compiled.flags,
      operations,
      tensors: manifest.tensors.length,
      parameters: manifest.tensors.reduce((n, row) => n + total(row.shape), 0),
      bytes: safetensors.length,
      scales: [
        ...new Set(
          manifest.operations.flatMap((op) =>
            op.op === 'low_rank' || op.op === 'magnitude' ? [op.scale] : [],
          ),
        ),
      ],
      inertKeys: compiled.inert,
      ignoredFiles: [...files.keys()].filter((path) => !used.has(path)),
      byteExact: again.length === weights.length && again.every((byte, i) => byte === weights[i]),
    },
  }
}

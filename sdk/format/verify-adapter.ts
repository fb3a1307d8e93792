import type { BaseTensor } from './base-identity.ts'
import { createBaseSites } from './base-sites.ts'
import { type ByteSource, chunksOf, heldBytes, readAll } from './byte-source.ts'
import { checkSite } from './check-sites.ts'
import { type CreateHash, type Digest, heldHash } from './digest.ts'
import { findNonFinite, toFloat32 } from './dtypes.ts'
import { type ErrorCode, expected, GraftError } from './errors.ts'
import type { FileRow, Manifest } from './manifest.ts'
import { type OpenedSafetensors, openSafetensors } from './safetensors-source.ts'
import { slotsOf } from './slots.ts'
import type { TensorSource } from './tensor-source.ts'
import { hasNoEffect } from './zero-effect.ts'

const refuse = (code: ErrorCode, where: string, what: string, got: unknown): never => {
  throw new GraftError(code, expected(where, what, got))
}

const same = (a: readonly number[], b: readonly number[]): boolean =>
  a.length === b.length && a.every((dim, i) => dim === b[i])

/** Table and file name the same tensors, of one dtype and shape. */
function checkTable(manifest: Manifest, tensors: ReadonlyMap<string, TensorSource>): void {
  for (const { name, dtype, shape } of manifest.tensors) {
    const tensor = tensors.get(name)
    if (!tensor)
      throw new GraftError(
        'ERR_TENSOR_MISSING',
        `tensor ${name} of the manifest is not in the safetensors file`,
      )
    if (tensor.dtype !== dtype || !same(tensor.shape, shape))
      refuse(
        'ERR_TENSOR_SHAPE',
        `tensor ${name}`,
        `${dtype} [${shape}]`,
        `${tensor.dtype} [${tensor.shape}]`,
      )
  }
  const named = new Set(manifest.tensors.map((row) => row.name))
  for (const name of tensors.keys())
    if (!named.has(name))
      throw new GraftError(
        'ERR_TENSOR_UNMATCHED',
        `tensor ${name} of the file is not in the manifest`,
      )
}

/** @param at elements of the tensor before this piece */
function checkFinite(name: string, dtype: string, piece: Uint8Array, at: number): void {
  const found = findNonFinite(dtype, piece)
  if (found < 0) return
  const value = toFloat32(dtype, piece)[found]
  refuse(
    'ERR_WEIGHTS_NON_FINITE',
    `tensor ${name}: element ${at + found}`,
    'finite in f32',
    `${value}`,
  )
}

export interface VerifyOptions {
  /** The platform's own. @default one that holds the file whole */
  createHash?: CreateHash
  /** Of the whole file, where it was computed as the file came. */
  fileDigest?: Digest
}

/** One pass over the file's bytes: the digests of the file and of every tensor, and finite values. */
async function checkBytes(
  manifest: Manifest,
  { header, tensors }: OpenedSafetensors,
  { createHash = heldHash, fileDigest }: VerifyOptions,
  row: FileRow,
): Promise<void> {
  const digests = new Map(manifest.tensors.map((row) => [row.name, row.sha256]))
  const file = fileDigest === undefined ? createHash() : null
  file?.update(header)
  // Tensors tile the file in the order that the header was parsed to.
  for (const [name, { dtype, shape, data }] of tensors) {
    const hash = createHash()
    const bytesEach = data.size / shape.reduce((n, dim) => n * dim, 1)
    let at = 0
    for await (const piece of chunksOf(data)) {
      file?.update(piece)
      hash.update(piece)
      checkFinite(name, dtype, piece, at)
      at += piece.length / bytesEach
    }
    const [got, want] = [await hash.digest(), digests.get(name)]
    if (got !== want) refuse('ERR_DIGEST_MISMATCH', `tensor ${name}`, String(want), got)
  }
  const got = file ? await file.digest() : fileDigest
  if (got !== row.sha256) refuse('ERR_DIGEST_MISMATCH', row.path, row.sha256, got)
}

/**
 * Everything that can be proven about an adapter from its bytes and, when given, the base's headers, in one pass over
 * the file and, of its tensors, one at a time. Expects a manifest that parseManifest accepted.
 * @throws ERR_DIGEST_MISMATCH, ERR_SAFETENSORS_INVALID, ERR_TENSOR_MISSING, ERR_TENSOR_UNMATCHED,
 *   ERR_TENSOR_SHAPE, ERR_WEIGHTS_NON_FINITE, ERR_ZERO_EFFECT
 */
export async function verifyAdapter(
  manifest: Manifest,
  safetensors: Uint8Array | ByteSource,
  baseTensors?: readonly BaseTensor[],
  options: VerifyOptions = {},
): Promise<void> {
  const source = safetensors instanceof Uint8Array ? heldBytes(safetensors) : safetensors
  const row = manifest.files.find((file) => file.role === 'canonical')
  if (!row) return refuse('ERR_MANIFEST_INVALID', 'files', 'with a canonical file', manifest.files)
  if (row.size !== source.size)
    refuse('ERR_DIGEST_MISMATCH', `${row.path}: size`, `${row.size} bytes`, source.size)
  const opened = await openSafetensors(source)
  const { tensors } = opened
  checkTable(manifest, tensors)
  for (const op of manifest.operations)
    for (const { slot, tensor, shape } of slotsOf(op)) {
      const got = tensors.get(tensor)?.shape ?? []
      if (!same(got, shape))
        refuse('ERR_TENSOR_SHAPE', `${op.op} at ${op.site}: ${slot}`, `[${shape}]`, got)
    }
  if (baseTensors) {
    const sites = createBaseSites(baseTensors, manifest.base.modelType)
    for (const op of manifest.operations) checkSite(op, sites)
  }
  await checkBytes(manifest, opened, options, row)
  await refuseZeroEffect(manifest, tensors)
}

/** @throws ERR_ZERO_EFFECT */
export async function refuseZeroEffect(
  { operations }: Pick<Manifest, 'operations'>,
  tensors: ReadonlyMap<string, TensorSource>,
): Promise<void> {
  const values = async (name: string): Promise<Float32Array> => {
    const { dtype, data } = tensors.get(name)!
    return toFloat32(dtype, await readAll(data))
  }
  for (const op of operations) if (!(await hasNoEffect(op, values))) return
  throw new GraftError(
    'ERR_ZERO_EFFECT',
    `none of the ${operations.length} operations changes the base (all updates are zero): the adapter was saved before training or from the wrong model`,
  )
}

import type { BaseTensor } from './base-identity.ts'
import { createBaseSites } from './base-sites.ts'
import { type ByteSource, heldBytes, readAll } from './byte-source.ts'
import { checkSite } from './check-sites.ts'
import { checkSlots } from './check-slots.ts'
import { toFloat32 } from './dtypes.ts'
import { type ErrorCode, expected, GraftError } from './errors.ts'
import type { Manifest } from './manifest.ts'
import { openSafetensors } from './safetensors-source.ts'
import { type ScanOptions, scanSafetensors } from './scan-safetensors.ts'
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
  options: ScanOptions = {},
): Promise<void> {
  const source = safetensors instanceof Uint8Array ? heldBytes(safetensors) : safetensors
  const row = manifest.files.find((file) => file.role === 'canonical')
  if (!row) return refuse('ERR_MANIFEST_INVALID', 'files', 'with a canonical file', manifest.files)
  if (row.size !== source.size)
    refuse('ERR_DIGEST_MISMATCH', `${row.path}: size`, `${row.size} bytes`, source.size)
  const opened = await openSafetensors(source)
  const { tensors } = opened
  checkTable(manifest, tensors)
  for (const op of manifest.operations) await checkSlots(op, tensors)
  if (baseTensors) checkSites(manifest, baseTensors)
  const scanned = await scanSafetensors(opened, options)
  for (const { name, sha256 } of manifest.tensors) {
    const got = scanned.tensors.get(name)
    if (got !== sha256) refuse('ERR_DIGEST_MISMATCH', `tensor ${name}`, sha256, got)
  }
  if (scanned.file !== row.sha256) refuse('ERR_DIGEST_MISMATCH', row.path, row.sha256, scanned.file)
  await refuseZeroEffect(manifest, tensors)
}

/** Every operation against the base's headers. @throws ERR_TENSOR_UNMATCHED, ERR_TENSOR_SHAPE */
export function checkSites(
  { operations, base }: Pick<Manifest, 'operations' | 'base'>,
  baseTensors: readonly BaseTensor[],
): void {
  const sites = createBaseSites(baseTensors, base.modelType)
  for (const op of operations) checkSite(op, sites)
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

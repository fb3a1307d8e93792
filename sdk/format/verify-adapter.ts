import type { BaseTensor } from './base-identity.ts'
import { type BaseSites, createBaseSites } from './base-sites.ts'
import { type Digest, sha256 } from './digest.ts'
import { findNonFinite, toFloat32 } from './dtypes.ts'
import { type ErrorCode, expected, GraftError } from './errors.ts'
import type { Manifest } from './manifest.ts'
import type { Operation } from './operations.ts'
import { readSafetensors, type Tensor } from './safetensors.ts'
import { slotsOf } from './slots.ts'

const refuse = (code: ErrorCode, where: string, what: string, got: unknown): never => {
  throw new GraftError(code, expected(where, what, got))
}

const same = (a: readonly number[], b: readonly number[]): boolean =>
  a.length === b.length && a.every((dim, i) => dim === b[i])

/** How bytes are hashed: WebCrypto's way runs everywhere, a platform's own may be quicker for many small tensors. */
export type Hash = (bytes: Uint8Array) => Digest | Promise<Digest>

async function checkFile(manifest: Manifest, bytes: Uint8Array, hash: Hash): Promise<void> {
  const row = manifest.files.find((file) => file.role === 'canonical')
  if (!row) return refuse('ERR_MANIFEST_INVALID', 'files', 'with a canonical file', manifest.files)
  if (row.size !== bytes.length)
    refuse('ERR_DIGEST_MISMATCH', `${row.path}: size`, `${row.size} bytes`, bytes.length)
  const digest = await hash(bytes)
  if (digest !== row.sha256) refuse('ERR_DIGEST_MISMATCH', row.path, row.sha256, digest)
}

/** Table and file name the same tensors, of one dtype and shape, with the digests the table states. */
async function checkTable(
  manifest: Manifest,
  tensors: Map<string, Tensor>,
  hash: Hash,
): Promise<void> {
  for (const { name, dtype, shape, sha256: digest } of manifest.tensors) {
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
    const got = await hash(tensor.data)
    if (got !== digest) refuse('ERR_DIGEST_MISMATCH', `tensor ${name}`, digest, got)
  }
  const named = new Set(manifest.tensors.map((row) => row.name))
  for (const name of tensors.keys())
    if (!named.has(name))
      throw new GraftError(
        'ERR_TENSOR_UNMATCHED',
        `tensor ${name} of the file is not in the manifest`,
      )
}

function checkFinite(name: string, { dtype, data }: Tensor): void {
  const at = findNonFinite(dtype, data)
  if (at < 0) return
  const value = toFloat32(dtype, data)[at]
  refuse('ERR_WEIGHTS_NON_FINITE', `tensor ${name}: element ${at}`, 'finite in f32', `${value}`)
}

/** The shape that `param` of `site` has in the base, or a refusal that says what to check. */
function baseShape(sites: BaseSites, tensor: string, kind: string): number[] {
  const shape = sites.shape(tensor)
  if (shape) return shape
  throw new GraftError(
    'ERR_TENSOR_UNMATCHED',
    `${kind} names ${tensor}, which the base does not have; the adapter was made for another base`,
  )
}

/** Every operation sits on something the base has, of the size the operation says. */
function checkSite(op: Operation, sites: BaseSites): void {
  const where = `${op.op} at ${op.site}`
  const differs = (what: string, got: unknown) => refuse('ERR_TENSOR_SHAPE', where, what, got)
  switch (op.op) {
    case 'low_rank':
    case 'magnitude':
    case 'dense':
    case 'scale': {
      baseShape(sites, `${op.site}.weight`, where)
      const linear = sites.linear(op.site)
      if (!linear) differs('on a linear layer', sites.shape(`${op.site}.weight`))
      else if (op.op === 'scale') {
        const size = op.side === 'input' ? linear.in : linear.out
        if (op.size !== size) differs(`of size ${size}`, op.size)
      } else if (op.in !== linear.in || op.out !== linear.out)
        differs(`${linear.in} -> ${linear.out} as in the base`, `${op.in} -> ${op.out}`)
      return
    }
    case 'prompt': {
      const [, hidden] = baseShape(sites, `${op.site}.weight`, where)
      if (hidden !== op.hidden) differs(`of hidden size ${hidden}`, op.hidden)
      return
    }
    case 'replace': {
      const [rows = 0, ...rest] = baseShape(sites, `${op.site}.${op.param}`, where)
      if (!same(op.shape, [op.rows?.length ?? rows, ...rest]))
        differs(`of shape [${[op.rows?.length ?? rows, ...rest]}]`, op.shape)
      if (op.rows?.some((row) => row >= rows)) differs(`of rows below ${rows}`, op.rows)
      return
    }
    case 'prefix': {
      if (!sites.has(op.site)) baseShape(sites, op.site, where)
      const keys = sites.linear(`${op.site}.k_proj`)
      if (keys && keys.out !== op.kvHeads * op.headDim)
        differs(`of ${keys.out} key values per token`, op.kvHeads * op.headDim)
      return
    }
    case 'bottleneck': {
      if (!sites.has(op.site)) baseShape(sites, op.site, where)
      const inside = sites.modules.filter((path) => path.startsWith(`${op.site}.`))
      if (!inside.some((path) => sites.shape(`${path}.weight`)?.includes(op.hidden)))
        differs('of the hidden size of its block', op.hidden)
      return
    }
  }
}

type Values = (tensor: string) => Float32Array

const isZero = (values: Float32Array): boolean => values.every((value) => value === 0)

/** Some rank r has both a row of A and a column of B that are not zero. A [rank, in], B [out, rank]. */
function productIsZero(a: Float32Array, b: Float32Array, rank: number): boolean {
  const width = a.length / rank
  for (let r = 0; r < rank; r++) {
    if (isZero(a.subarray(r * width, (r + 1) * width))) continue
    for (let at = r; at < b.length; at += rank) if (b[at] !== 0) return false
  }
  return true
}

/** True only where the operation provably changes nothing, whatever the base's weights are. */
function hasNoEffect(op: Operation, values: Values): boolean {
  switch (op.op) {
    case 'low_rank':
      return (
        Number(op.scale) === 0 ||
        (productIsZero(values(op.slots.A), values(op.slots.B), op.rank) &&
          (op.slots.Bbias === undefined || isZero(values(op.slots.Bbias))))
      )
    case 'scale':
      return values(op.slots.l).every((value) => value === 1)
    case 'dense':
      return isZero(values(op.slots.dW))
    case 'bottleneck':
      if (op.slots.lnAfterW !== undefined) return false
      if (op.slots.scaling !== undefined && isZero(values(op.slots.scaling))) return true
      if (Number(op.scaling) === 0) return true
      return (
        isZero(values(op.slots.upW)) && (op.slots.upB === undefined || isZero(values(op.slots.upB)))
      )
    // m may differ from W's row norms; virtual tokens take attention even when zero; replaced values may differ.
    case 'magnitude':
    case 'prefix':
    case 'prompt':
    case 'replace':
      return false
  }
}

/**
 * Everything that can be proven about an adapter from its bytes and, when given, the base's headers.
 * Expects a manifest that parseManifest accepted.
 * @throws ERR_DIGEST_MISMATCH, ERR_SAFETENSORS_INVALID, ERR_TENSOR_MISSING, ERR_TENSOR_UNMATCHED,
 *   ERR_TENSOR_SHAPE, ERR_WEIGHTS_NON_FINITE, ERR_ZERO_EFFECT
 */
export async function verifyAdapter(
  manifest: Manifest,
  safetensorsBytes: Uint8Array,
  baseTensors?: readonly BaseTensor[],
  hash: Hash = sha256,
): Promise<void> {
  await checkFile(manifest, safetensorsBytes, hash)
  const { tensors } = readSafetensors(safetensorsBytes)
  await checkTable(manifest, tensors, hash)
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
  for (const [name, tensor] of tensors) checkFinite(name, tensor)
  const values: Values = (name) => {
    const { dtype, data } = tensors.get(name)!
    return toFloat32(dtype, data)
  }
  if (manifest.operations.every((op) => hasNoEffect(op, values)))
    throw new GraftError(
      'ERR_ZERO_EFFECT',
      `none of the ${manifest.operations.length} operations changes the base (all updates are zero): the adapter was saved before training or from the wrong model`,
    )
}

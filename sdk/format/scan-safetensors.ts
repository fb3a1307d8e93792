import { CHUNK_BYTES, chunksOf } from './byte-source.ts'
import { type CreateHash, type Digest, heldHash } from './digest.ts'
import { findNonFinite, isWeightDtype, toFloat32 } from './dtypes.ts'
import { expected, GraftError } from './errors.ts'
import { isIndexDtype } from './indices.ts'
import type { OpenedSafetensors } from './safetensors-source.ts'

export interface ScanOptions {
  /** The platform's own. @default one that holds the file whole */
  createHash?: CreateHash
  /** Of the whole file, where it was computed as the file came. */
  fileDigest?: Digest
}

/** @param at elements of the tensor before this piece */
function checkFinite(name: string, dtype: string, piece: Uint8Array, at: number): void {
  if (isIndexDtype(dtype)) return
  if (!isWeightDtype(dtype))
    throw new GraftError(
      'ERR_SAFETENSORS_INVALID',
      `${expected(`dtype of weights, tensor ${name}`, 'F32, F16, BF16 or F64', dtype)}; save it as one of them`,
    )
  const found = findNonFinite(dtype, piece)
  if (found < 0) return
  const value = toFloat32(dtype, piece)[found]
  throw new GraftError(
    'ERR_WEIGHTS_NON_FINITE',
    expected(`tensor ${name}: element ${at + found}`, 'finite in f32', `${value}`),
  )
}

/**
 * One pass over a file's bytes: the digests of the file and of every tensor, and that every value is finite.
 * @throws ERR_WEIGHTS_NON_FINITE, ERR_SAFETENSORS_INVALID for a dtype that holds neither weights nor indices
 */
export async function scanSafetensors(
  { header, tensors }: OpenedSafetensors,
  { createHash = heldHash, fileDigest }: ScanOptions = {},
): Promise<{ tensors: Map<string, Digest>; file: Digest }> {
  const file = fileDigest === undefined ? createHash() : null
  file?.update(header)
  const digests = new Map<string, Digest>()
  const room = createHash().holds ? undefined : new Uint8Array(CHUNK_BYTES)
  // The tensors tile the file in the order that its header was parsed to.
  for (const [name, { dtype, shape, data }] of tensors) {
    const hash = createHash()
    const bytesEach = data.size / shape.reduce((n, dim) => n * dim, 1)
    let at = 0
    for await (const piece of chunksOf(data, room)) {
      file?.update(piece)
      hash.update(piece)
      checkFinite(name, dtype, piece, at)
      at += piece.length / bytesEach
    }
    digests.set(name, await hash.digest())
  }
  return { tensors: digests, file: file ? await file.digest() : fileDigest! }
}

import type { Digest } from '@graft/sdk/format/digest.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import type { MissingParts } from '@graft/sdk/protocol/registry-api.ts'
import type { RegistryDeps } from '../deps.ts'
import { type Caller, requireScope } from '../identity/caller.ts'
import { type Bytes, wrongPart } from '../stores/blob-store.ts'
import { sql } from '../stores/catalogue.ts'
import { findUpload, partsUrl, type Upload, type UploadBlob } from './uploads.ts'

/** A blob that is sent in parts: all of `partSize` bytes but the last. */
interface PartedBlob extends UploadBlob {
  partSize: number
}

const countOf = ({ size, partSize }: PartedBlob): number => Math.ceil(size / partSize)
const sizeOfPart = ({ size, partSize }: PartedBlob, number: number): number =>
  Math.min(partSize, size - (number - 1) * partSize)

/** Of an open upload of the caller's. @throws ERR_NAME_UNKNOWN, ERR_BLOB_UNKNOWN, ERR_PUBLISH_STATE */
async function findParted(
  deps: RegistryDeps,
  caller: Caller,
  id: string,
  digest: Digest,
): Promise<PartedBlob> {
  requireScope(caller, 'publish')
  const upload = await findUpload(deps, caller, id)
  const blob = upload.blobs.find((b) => b.digest === digest)
  if (!blob) throw new GraftError('ERR_BLOB_UNKNOWN', `publish "${id}" names no blob ${digest}`)
  assertOpen(upload)
  if (blob.partSize !== null) return blob as PartedBlob
  throw new GraftError(
    'ERR_REQUEST_INVALID',
    `blob ${digest} of ${blob.size} bytes does not come in parts; send it whole`,
  )
}

/** @throws ERR_PUBLISH_STATE once nothing may be sent any more */
export function assertOpen(upload: Upload): void {
  if (upload.state !== 'uploading')
    throw new GraftError(
      'ERR_PUBLISH_STATE',
      expected(`publish "${upload.id}"`, 'uploading to take blobs', upload.state),
    )
}

async function missingNumbers(deps: RegistryDeps, id: string, blob: PartedBlob): Promise<number[]> {
  const there = new Map(
    (await deps.blobs.listParts(id, blob.digest)).map(({ number, size }) => [number, size]),
  )
  return Array.from({ length: countOf(blob) }, (_, i) => i + 1).filter(
    (number) => there.get(number) !== sizeOfPart(blob, number),
  )
}

/** Which parts are still to be sent, and where to: straight to storage where the store allows it. */
export async function listMissingParts(
  deps: RegistryDeps,
  caller: Caller,
  id: string,
  digest: Digest,
): Promise<MissingParts> {
  const blob = await findParted(deps, caller, id, digest)
  const { partSize } = blob
  const numbers = blob.state === 'missing' ? await missingNumbers(deps, id, blob) : []
  const { partUrlSeconds } = deps.limits
  const missing = await Promise.all(
    numbers.map(async (number) => {
      const size = sizeOfPart(blob, number)
      const url =
        (await deps.blobs.presignPart?.(id, digest, number, size, partUrlSeconds)) ??
        `${partsUrl(id, digest)}/${number}`
      return { number, size, url }
    }),
  )
  return { partSize, count: countOf(blob), missing }
}

/**
 * Takes one part through the server; again replaces it.
 * @throws ERR_DIGEST_MISMATCH, ERR_BLOB_UNKNOWN, ERR_PUBLISH_STATE, ERR_NAME_UNKNOWN, ERR_REQUEST_INVALID
 */
export async function receivePart(
  deps: RegistryDeps,
  caller: Caller,
  id: string,
  digest: Digest,
  number: number,
  body: Bytes | null,
  contentLength: number | null,
): Promise<void> {
  const blob = await findParted(deps, caller, id, digest)
  const count = countOf(blob)
  if (!Number.isInteger(number) || number < 1 || number > count)
    throw new GraftError('ERR_REQUEST_INVALID', expected('part', `of 1 to ${count}`, number))
  if (blob.state !== 'missing') return void (await body?.cancel())
  const size = sizeOfPart(blob, number)
  if (body === null) throw wrongPart(number, size, 'no body')
  if (contentLength !== null && contentLength !== size)
    throw wrongPart(number, size, `${contentLength} bytes`)
  await deps.blobs.putPart(id, digest, number, size, body)
}

/**
 * Stages the blobs whose parts are all there. @returns the blobs as they are then
 * @throws ERR_DIGEST_MISMATCH when the parts are not the blob; they are gone then and may be sent again
 */
export async function joinArrived(deps: RegistryDeps, upload: Upload): Promise<UploadBlob[]> {
  const blobs: UploadBlob[] = []
  for (const blob of upload.blobs) {
    const { digest, size, partSize } = blob
    const parted = { ...blob, partSize: partSize ?? size }
    if (
      blob.state !== 'missing' ||
      partSize === null ||
      (await missingNumbers(deps, upload.id, parted)).length > 0
    ) {
      blobs.push(blob)
      continue
    }
    await deps.blobs.joinParts(upload.id, digest, size, countOf(parted))
    await deps.catalogue.batch([stagedRow(upload.id, digest)])
    blobs.push({ ...blob, state: 'staged' })
  }
  return blobs
}

/** Remembers that a blob arrived. */
export const stagedRow = (id: string, digest: Digest) =>
  sql(
    `UPDATE upload_blobs SET state = 'staged' WHERE upload = ? AND digest = ? AND state = 'missing'`,
    id,
    digest,
  )

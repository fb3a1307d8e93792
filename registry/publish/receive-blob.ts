import type { Digest } from '@graft/sdk/format/digest.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import type { RegistryDeps } from '../deps.ts'
import { type Caller, requireScope } from '../identity/caller.ts'
import { type Bytes, mismatch } from '../stores/blob-store.ts'
import { assertOpen, stagedRow } from './parts.ts'
import { findUpload } from './uploads.ts'

/**
 * Streams one blob into the upload's staging area; again is the same as once.
 * @throws ERR_DIGEST_MISMATCH, ERR_BLOB_UNKNOWN, ERR_PUBLISH_STATE, ERR_NAME_UNKNOWN, ERR_BODY_TOO_LARGE
 */
export async function receiveBlob(
  deps: RegistryDeps,
  caller: Caller,
  id: string,
  digest: Digest,
  body: Bytes | null,
  contentLength: number | null,
): Promise<void> {
  requireScope(caller, 'publish')
  const upload = await findUpload(deps, caller, id)
  const blob = upload.blobs.find((b) => b.digest === digest)
  if (!blob) throw new GraftError('ERR_BLOB_UNKNOWN', `publish "${id}" names no blob ${digest}`)
  assertOpen(upload)
  if (blob.state !== 'missing') return void (await body?.cancel())
  if (body === null) throw mismatch(digest, blob.size, 'no body')
  if (contentLength !== null && contentLength !== blob.size)
    throw mismatch(digest, blob.size, `${contentLength} bytes`)
  if (blob.size > deps.limits.put)
    throw new GraftError(
      'ERR_BODY_TOO_LARGE',
      `blob ${digest} must be at most ${deps.limits.put} bytes to come in one request, got ${blob.size}; send it in parts`,
    )
  await deps.blobs.stage(id, digest, blob.size, body)
  await deps.catalogue.batch([stagedRow(id, digest)])
}

import type { Digest } from '@graft/sdk/format/digest.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import type { RegistryDeps } from '../deps.ts'
import { type Caller, requireScope } from '../identity/caller.ts'
import { type Bytes, mismatch } from '../stores/blob-store.ts'
import { sql } from '../stores/catalogue.ts'
import { findUpload } from './uploads.ts'

/**
 * Streams one blob into the upload's staging area; again is the same as once.
 * @throws ERR_DIGEST_MISMATCH, ERR_BLOB_UNKNOWN, ERR_PUBLISH_STATE, ERR_NAME_UNKNOWN
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
  if (upload.state !== 'uploading')
    throw new GraftError(
      'ERR_PUBLISH_STATE',
      expected(`publish "${id}"`, 'uploading to take blobs', upload.state),
    )
  if (blob.state !== 'missing') return void (await body?.cancel())
  if (body === null) throw mismatch(digest, blob.size, 'no body')
  if (contentLength !== null && contentLength !== blob.size)
    throw mismatch(digest, blob.size, `${contentLength} bytes`)
  await deps.blobs.stage(id, digest, blob.size, body)
  await deps.catalogue.batch([
    sql(
      `UPDATE upload_blobs SET state = 'staged' WHERE upload = ? AND digest = ? AND state = 'missing'`,
      id,
      digest,
    ),
  ])
}

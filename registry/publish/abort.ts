import { GraftError } from '@graft/sdk/format/errors.ts'
import type { RegistryDeps } from '../deps.ts'
import { type Caller, requireScope } from '../identity/caller.ts'
import { sql } from '../stores/catalogue.ts'
import { findUpload } from './uploads.ts'

/** Why an upload ended that nobody finished. */
const failureOf = (message: string): string => JSON.stringify({ code: 'ERR_CANCELLED', message })

/** No commit can make it visible any more from here on: a commit wants the upload to be verifying. */
export const endedRow = (id: string, message: string) =>
  sql(
    `UPDATE uploads SET state = 'failed', failure = ? WHERE id = ? AND state IN ('uploading', 'verifying')`,
    failureOf(message),
    id,
  )

/**
 * Gives an upload up and frees what it staged; again is the same as once.
 * @throws ERR_PUBLISH_STATE once it is published, ERR_NAME_UNKNOWN
 */
export async function abortPublish(deps: RegistryDeps, caller: Caller, id: string): Promise<void> {
  requireScope(caller, 'publish')
  await findUpload(deps, caller, id)
  await deps.catalogue.batch([endedRow(id, `publish "${id}" was aborted; start it again`)])
  if ((await findUpload(deps, caller, id)).state === 'published')
    throw new GraftError(
      'ERR_PUBLISH_STATE',
      `publish "${id}" is already a version, and a version is never taken back; yank it instead`,
    )
  await deps.blobs.discard(id)
}

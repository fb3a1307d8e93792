import type { Digest } from '@graft/sdk/format/digest.ts'
import { type ErrorCode, GraftError } from '@graft/sdk/format/errors.ts'
import type { SignedEnvelope } from '@graft/sdk/format/manifest.ts'
import type { PublishAnswer, PublishState, Visibility } from '@graft/sdk/protocol/registry-api.ts'
import type { RegistryDeps } from '../deps.ts'
import type { Caller } from '../identity/caller.ts'
import { first } from '../stores/catalogue.ts'
import type { BlobRole } from './parse-request.ts'

export interface Upload {
  id: string
  org: string
  state: PublishState
  digest: Digest
  package: string
  version: string
  visibility: Visibility
  tags: string[]
  signatures: SignedEnvelope['signatures']
  attestations: StoredAttestation[]
  failure: { code: ErrorCode; message: string } | null
  blobs: UploadBlob[]
}

/** An attestation whose payload is a blob. */
export interface StoredAttestation {
  blob: Digest
  signatures: SignedEnvelope['signatures']
}

export interface UploadBlob {
  digest: Digest
  size: number
  role: BlobRole
  state: 'missing' | 'staged' | 'readable'
  /** Bytes of every part but the last; null = comes in one request. */
  partSize: number | null
}

type UploadRow = Omit<Upload, 'tags' | 'signatures' | 'attestations' | 'failure' | 'blobs'> &
  Record<'tags' | 'signatures' | 'attestations', string> & { failure: string | null }

async function fromRow(deps: RegistryDeps, row: UploadRow): Promise<Upload> {
  const blobs = await deps.catalogue.query<UploadBlob>(
    `SELECT digest, size, role, state, part_size AS "partSize"
       FROM upload_blobs WHERE upload = ? ORDER BY digest`,
    [row.id],
  )
  return {
    ...row,
    tags: JSON.parse(row.tags),
    signatures: JSON.parse(row.signatures),
    attestations: JSON.parse(row.attestations),
    failure: row.failure === null ? null : JSON.parse(row.failure),
    blobs,
  }
}

const COLUMNS =
  'id, org, state, digest, package, version, visibility, tags, signatures, attestations, failure'

/** An upload of the caller's organisation; another's is as unknown as none. @throws ERR_NAME_UNKNOWN */
export async function findUpload(deps: RegistryDeps, caller: Caller, id: string): Promise<Upload> {
  const row = await first<UploadRow>(
    deps.catalogue,
    `SELECT ${COLUMNS} FROM uploads WHERE id = ? AND org = ?`,
    id,
    caller.tenant,
  )
  if (row) return fromRow(deps, row)
  throw new GraftError('ERR_NAME_UNKNOWN', `publish "${id}" is not known here; start it again`)
}

/** A request that is still under way, or done: a client that lost the answer goes on where it was. */
export async function findRepeated(
  deps: RegistryDeps,
  org: string,
  request: Digest,
): Promise<Upload | null> {
  const row = await first<UploadRow>(
    deps.catalogue,
    `SELECT ${COLUMNS} FROM uploads WHERE org = ? AND request = ? AND state != 'failed'
      ORDER BY created_at DESC LIMIT 1`,
    org,
    request,
  )
  return row && fromRow(deps, row)
}

export const partsUrl = (id: string, digest: Digest): string =>
  `/v1/publish/${id}/blobs/${digest}/parts`

export function toAnswer(upload: Upload): PublishAnswer {
  const missing = upload.blobs
    .filter((blob) => upload.state === 'uploading' && blob.state === 'missing')
    .map(({ digest, size, partSize }) => ({
      digest,
      size,
      url: `/v1/publish/${upload.id}/blobs/${digest}`,
      ...(partSize === null ? {} : { parts: partsUrl(upload.id, digest) }),
    }))
  const { id, state, digest, package: name, version, failure } = upload
  return { id, state, missing, digest, name, version, ...(failure ? { failure } : {}) }
}

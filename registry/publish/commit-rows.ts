import { kindToRun } from '@graft/sdk/format/dense/as-low-rank.ts'
import type { OperationKind } from '@graft/sdk/format/operations.ts'
import type { BaseRecord } from '@graft/sdk/protocol/registry-api.ts'
import { nowIso, type RegistryDeps } from '../deps.ts'
import type { Caller } from '../identity/caller.ts'
import { eventRow } from '../packages/events.ts'
import { operationMask } from '../resolve/operation-mask.ts'
import { sortKey } from '../resolve/version-order.ts'
import { type SqlStatement, sql } from '../stores/catalogue.ts'
import { orgOf, precedenceOf } from './checks.ts'
import { maxRank } from './max-rank.ts'
import type { ParsedRequest } from './parse-request.ts'
import type { Upload } from './uploads.ts'

/** What search and listings keep of texts that an author may make as long as they like; the manifest has them whole. */
const MAX_DESCRIPTION_LENGTH = 1000
const MAX_KEYWORDS = 32

/** The one batch that makes a version visible: package, version, blobs, tags, audit line, upload. */
export function commitRows(
  deps: RegistryDeps,
  caller: Caller,
  upload: Upload,
  { manifest, digest }: ParsedRequest,
  base: BaseRecord,
): SqlStatement[] {
  const at = nowIso(deps)
  const { name, version } = manifest
  const kinds: OperationKind[] = [...new Set(manifest.operations.map(kindToRun))].sort()
  const size = manifest.files.find((file) => file.role === 'canonical')!.size
  return [
    sql(
      `INSERT INTO packages (name, org, visibility, created_at) VALUES (?, ?, ?, ?)
       ON CONFLICT (name) DO NOTHING`,
      name,
      orgOf(name),
      upload.visibility,
      at,
    ),
    // Selected from the package, so that a package made public meanwhile cannot publish a private version, and from the
    // upload, which may have been aborted or swept: then no row is inserted, and the blobs' foreign key fails the batch.
    sql(
      `INSERT INTO versions (digest, package, version, precedence, base_digest, base_name, operations,
         family, description, keywords, size, signatures, attestations, upload, published_by, published_at,
         sort, operation_mask, max_rank, license)
       SELECT ?, p.name, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?
         FROM packages p JOIN uploads u ON u.id = ? AND u.state = 'verifying'
        WHERE p.name = ? AND p.visibility = ?`,
      digest,
      version,
      precedenceOf(version),
      base.digest,
      base.identity.name,
      JSON.stringify(kinds),
      manifest.method.family,
      (manifest.description ?? '').slice(0, MAX_DESCRIPTION_LENGTH),
      JSON.stringify(manifest.keywords?.slice(0, MAX_KEYWORDS) ?? []).slice(
        0,
        MAX_DESCRIPTION_LENGTH,
      ),
      size,
      JSON.stringify(upload.signatures),
      JSON.stringify(upload.attestations),
      upload.id,
      caller.sub,
      at,
      sortKey(version),
      operationMask(kinds),
      maxRank(manifest.operations),
      manifest.license ?? '',
      upload.id,
      name,
      upload.visibility,
    ),
    ...upload.blobs.map((blob) =>
      sql(
        'INSERT INTO version_blobs (version, blob, size, role) VALUES (?, ?, ?, ?)',
        digest,
        blob.digest,
        blob.size,
        blob.role,
      ),
    ),
    ...upload.tags.map((tag) => tagRow(name, tag, digest, at)),
    eventRow(deps, caller, 'version.publish', `${name}@${version} ${digest}`),
    sql(`UPDATE uploads SET state = 'published', failure = NULL WHERE id = ?`, upload.id),
  ]
}

/** Points a tag at a version. */
export const tagRow = (name: string, tag: string, digest: string, at: string): SqlStatement =>
  sql(
    `INSERT INTO tags (package, tag, version, moved_at) VALUES (?, ?, ?, ?)
     ON CONFLICT (package, tag) DO UPDATE SET version = excluded.version, moved_at = excluded.moved_at`,
    name,
    tag,
    digest,
    at,
  )

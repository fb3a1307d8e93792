import { canonicalBytes } from '@graft/sdk/format/canonical-json.ts'
import { MAX_CARD_BYTES } from '@graft/sdk/format/card.ts'
import { type Digest, sha256 } from '@graft/sdk/format/digest.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import type { PublishAnswer, PublishRequest } from '@graft/sdk/protocol/registry-api.ts'
import { newId, nowIso, type RegistryDeps } from '../deps.ts'
import type { Caller } from '../identity/caller.ts'
import { listPublisherKeys } from '../identity/publisher-keys.ts'
import { readableBlobs } from '../packages/readable.ts'
import { streamOf } from '../stores/blob-store.ts'
import { sql } from '../stores/catalogue.ts'
import {
  assertMayPublish,
  assertVisibility,
  findManifestBase,
  findTaken,
  versionExists,
  versionRemoved,
} from './checks.ts'
import { assertDeclared, type ParsedRequest, parseRequest, readManifest } from './parse-request.ts'
import { findRepeated, findUpload, toAnswer, type UploadBlob } from './uploads.ts'

/**
 * Checks all that needs no blobs, and says which blobs to send. A repeated request is the same upload.
 * @throws what parseRequest throws, ERR_FORBIDDEN, ERR_VERSION_EXISTS, ERR_BASE_UNKNOWN, ERR_BASE_MISMATCH
 */
export async function startPublish(
  deps: RegistryDeps,
  caller: Caller,
  request: PublishRequest,
): Promise<PublishAnswer> {
  const { name, version } = readManifest(request.envelope)
  assertMayPublish(caller, name)
  const parsed = await parseRequest(request, await listPublisherKeys(deps, caller.tenant))
  assertDeclared(request.blobs, parsed.blobs)
  assertSizes(deps, parsed)
  const taken = await findTaken(deps, name, version)
  if (taken && taken.digest !== parsed.digest) throw versionExists(name, version)
  if (taken?.tombstoned) throw versionRemoved(name, version, taken.tombstoned)
  if (taken) return toAnswer(await findUpload(deps, caller, taken.upload))
  await assertVisibility(deps, name, request.visibility)
  await findManifestBase(deps, parsed.manifest)
  const requestDigest = await digestOf(request, parsed)
  const repeated = await findRepeated(deps, caller.tenant, requestDigest)
  if (repeated) {
    await replaceSignatures(deps, repeated.id, request, parsed)
    return toAnswer(repeated)
  }
  return open(deps, caller, request, requestDigest, parsed)
}

/** What a request asks for, without its signatures: ES256 signs the same bytes differently each time. */
const digestOf = (request: PublishRequest, { digest, attestations, blobs }: ParsedRequest) =>
  sha256(
    canonicalBytes({
      digest,
      attestations: attestations.map((a) => a.digest),
      visibility: request.visibility,
      tags: tagsOf(request),
      blobs: blobs.map((blob) => blob.digest),
    }),
  )

const tagsOf = (request: PublishRequest): string[] => [...new Set(request.tags ?? ['latest'])]
const storedAttestations = ({ attestations }: ParsedRequest): string =>
  JSON.stringify(attestations.map((a) => ({ blob: a.digest, signatures: a.signatures })))

/** The newest signatures count: the key of the older ones may have been revoked since. */
async function replaceSignatures(
  deps: RegistryDeps,
  id: string,
  request: PublishRequest,
  parsed: ParsedRequest,
): Promise<void> {
  await deps.catalogue.batch([
    sql(
      `UPDATE uploads SET signatures = ?, attestations = ? WHERE id = ? AND state = 'uploading'`,
      JSON.stringify(request.envelope.signatures),
      storedAttestations(parsed),
      id,
    ),
  ])
}

function assertSizes({ limits }: RegistryDeps, { manifest, blobs }: ParsedRequest): void {
  for (const { digest, size, role } of blobs) {
    const limit =
      role === 'canonical' ? limits.adapter : role === 'card' ? MAX_CARD_BYTES : limits.blob
    if (size > limit)
      throw new GraftError(
        'ERR_BODY_TOO_LARGE',
        `${manifest.name}: ${role} file ${digest} must be at most ${limit} bytes, got ${size}`,
      )
  }
}

async function open(
  deps: RegistryDeps,
  caller: Caller,
  request: PublishRequest,
  requestDigest: Digest,
  parsed: ParsedRequest,
): Promise<PublishAnswer> {
  const id = newId(deps)
  const { manifest, digest, manifestBytes, attestations } = parsed
  // The row comes before the bytes, so that the sweeper finds whatever a crash leaves behind.
  const documents = [
    { digest, bytes: manifestBytes, role: 'manifest' as const },
    ...attestations.map((a) => ({
      digest: a.digest,
      bytes: a.bytes,
      role: 'attestation' as const,
    })),
  ]
  const readable = await readableBlobs(
    deps,
    caller.tenant,
    parsed.blobs.map((blob) => blob.digest),
  )
  const blobs: UploadBlob[] = [
    ...parsed.blobs
      .filter((blob) => !documents.some((d) => d.digest === blob.digest))
      .map((blob) => ({
        ...blob,
        state: readable.has(blob.digest) ? ('readable' as const) : ('missing' as const),
        partSize: blob.size > deps.limits.part ? deps.limits.part : null,
      })),
    ...unique(documents).map((d) => ({
      digest: d.digest,
      size: d.bytes.length,
      role: d.role,
      state: 'staged' as const,
      partSize: null,
    })),
  ]
  await deps.catalogue.batch([
    sql(
      `INSERT INTO uploads (id, org, request, state, digest, package, version, visibility, tags,
         signatures, attestations, created_by, created_at)
       VALUES (?, ?, ?, 'uploading', ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      id,
      caller.tenant,
      // Not to be found by a repeat until its documents are staged, below.
      '',
      digest,
      manifest.name,
      manifest.version,
      request.visibility,
      JSON.stringify(tagsOf(request)),
      JSON.stringify(request.envelope.signatures),
      storedAttestations(parsed),
      caller.sub,
      nowIso(deps),
    ),
    ...blobs.map((blob) =>
      sql(
        `INSERT INTO upload_blobs (upload, digest, size, role, state, part_size)
         VALUES (?, ?, ?, ?, ?, ?)`,
        id,
        blob.digest,
        blob.size,
        blob.role,
        blob.state,
        blob.partSize,
      ),
    ),
  ])
  for (const { digest, bytes } of unique(documents))
    await deps.blobs.stage(id, digest, bytes.length, streamOf(bytes))
  await deps.catalogue.batch([
    sql('UPDATE uploads SET request = ? WHERE id = ?', requestDigest, id),
  ])
  return toAnswer(await findUpload(deps, caller, id))
}

const unique = <T extends { digest: Digest }>(documents: T[]): T[] => [
  ...new Map(documents.map((d) => [d.digest, d])).values(),
]

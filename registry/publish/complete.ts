import { encodeBase64url } from '@graft/sdk/format/base64url.ts'
import type { Digest } from '@graft/sdk/format/digest.ts'
import { GraftError, isGraftError } from '@graft/sdk/format/errors.ts'
import { verifyAdapter } from '@graft/sdk/format/verify-adapter.ts'
import type { BaseRecord, PublishAnswer } from '@graft/sdk/protocol/registry-api.ts'
import type { RegistryDeps } from '../deps.ts'
import type { Caller } from '../identity/caller.ts'
import { listPublisherKeys } from '../identity/publisher-keys.ts'
import { appendEvent } from '../log/append-event.ts'
import { keepFromRemoval } from '../packages/remove-blobs.ts'
import { blobSource } from '../stores/blob-source.ts'
import { type ByteRange, type Bytes, readAll } from '../stores/blob-store.ts'
import { type SqlStatement, sql } from '../stores/catalogue.ts'
import {
  assertMayPublish,
  assertVisibility,
  findManifestBase,
  findTaken,
  versionExists,
} from './checks.ts'
import { commitRows } from './commit-rows.ts'
import { assertDeclared, type ParsedRequest, parseRequest } from './parse-request.ts'
import { joinArrived } from './parts.ts'
import { findUpload, toAnswer, type Upload } from './uploads.ts'
import { verifyGoldens } from './verify-goldens.ts'

/**
 * Verifies everything again from the stored bytes, then makes the version visible in one batch. Nothing before that
 * batch can be seen by anybody, so a crash anywhere leaves nothing, and calling again goes on from the start.
 * @throws ERR_PUBLISH_STATE while blobs are missing, and whatever is wrong with the version
 */
export async function completePublish(
  deps: RegistryDeps,
  caller: Caller,
  id: string,
): Promise<PublishAnswer> {
  const found = await findUpload(deps, caller, id)
  assertMayPublish(caller, found.package)
  if (found.state === 'published') return toAnswer(found)
  if (found.failure) throw new GraftError(found.failure.code, found.failure.message)
  const upload = { ...found, blobs: await joinArrived(deps, found) }
  const missing = upload.blobs.filter((blob) => blob.state === 'missing')
  if (missing.length > 0)
    throw new GraftError(
      'ERR_PUBLISH_STATE',
      `publish "${id}" still misses ${missing.length} of ${upload.blobs.length} blobs, first ${missing[0]!.digest}; send them, then complete again`,
    )
  await deps.catalogue.batch([
    sql(`UPDATE uploads SET state = 'verifying' WHERE id = ? AND state = 'uploading'`, id),
  ])
  try {
    const { parsed, base } = await verifyUpload(deps, caller, upload)
    const staged = upload.blobs.filter((blob) => blob.state === 'staged').map((b) => b.digest)
    await keepFromRemoval(deps, staged)
    for (const digest of staged) await deps.blobs.promote(id, digest)
    await commit(deps, caller, upload, parsed, base)
  } catch (e) {
    // Of two that complete one upload at once, the slower may find the staging area already cleared.
    const now = await findUpload(deps, caller, id).catch(() => null)
    if (now?.state === 'published') return toAnswer(now)
    if (now?.failure) throw new GraftError(now.failure.code, now.failure.message)
    if (isGraftError(e) && e.status < 500) await recordFailure(deps, upload, e)
    throw e
  }
  await deps.blobs.discard(id).catch(() => {
    // The version is out; what is left of the staging area is the sweeper's.
  })
  return toAnswer(await findUpload(deps, caller, id))
}

/** The request as it was signed, from staged bytes, and the adapter's weights against it and against the base. */
async function verifyUpload(deps: RegistryDeps, caller: Caller, upload: Upload) {
  const envelope = async (blob: Digest, signatures: Upload['signatures']) => ({
    payload: encodeBase64url(await readBlob(deps, upload, blob, deps.limits.manifest)),
    signatures,
  })
  const parsed = await parseRequest(
    {
      envelope: await envelope(upload.digest, upload.signatures),
      attestations: await Promise.all(
        upload.attestations.map((a) => envelope(a.blob, a.signatures)),
      ),
    },
    await listPublisherKeys(deps, caller.tenant),
  )
  const { manifest } = parsed
  const stored = upload.blobs.filter((b) => parsed.blobs.some((blob) => blob.digest === b.digest))
  assertDeclared(stored, parsed.blobs)
  await assertVisibility(deps, manifest.name, upload.visibility)
  const base = await findManifestBase(deps, manifest)
  const canonical = manifest.files.find((file) => file.role === 'canonical')!
  await using source = blobSource(canonical.size, (range) =>
    openBlob(deps, upload, canonical.sha256, range),
  )
  const { createHash } = deps.blobs
  await verifyAdapter(manifest, source, base.tensors, { createHash })
  for (const goldens of parsed.goldens)
    await verifyGoldens(goldens, await openBlob(deps, upload, goldens.logits.sha256))
  return { parsed, base }
}

async function openBlob(
  deps: RegistryDeps,
  upload: Upload,
  digest: Digest,
  range?: ByteRange,
): Promise<Bytes> {
  const blob = upload.blobs.find((b) => b.digest === digest)
  const body =
    blob?.state === 'readable'
      ? await deps.blobs.get(digest, range)
      : await deps.blobs.getStaged(upload.id, digest, range)
  if (body === null) throw new Error(`publish ${upload.id}: blob ${digest} is gone from the store`)
  return body
}

const readBlob = async (deps: RegistryDeps, upload: Upload, digest: Digest, limit: number) =>
  readAll(await openBlob(deps, upload, digest), limit, `blob ${digest}`)

async function commit(
  deps: RegistryDeps,
  caller: Caller,
  upload: Upload,
  parsed: ParsedRequest,
  base: BaseRecord,
): Promise<void> {
  try {
    const leaves = await publishLeaves(deps, upload)
    await deps.catalogue.batch([...commitRows(deps, caller, upload, parsed, base), ...leaves])
  } catch (e) {
    // Somebody else may have been faster: then their row, not the broken constraint, says what to answer.
    const taken = await findTaken(deps, upload.package, upload.version)
    if (taken === null) throw e
    if (taken.digest !== upload.digest) throw versionExists(upload.package, upload.version)
    await deps.catalogue.batch([
      sql(`UPDATE uploads SET state = 'published', failure = NULL WHERE id = ?`, upload.id),
    ])
  }
}

/** What the transparency log says of a publish: the version, and each tag that it moves. */
const publishLeaves = (deps: RegistryDeps, upload: Upload): Promise<SqlStatement[]> => {
  const { package: name, version, digest } = upload
  const about = { package: name, private: upload.visibility !== 'public' }
  const tags = upload.tags.map((tag) => ({ tag, version, digest }))
  return Promise.all([
    appendEvent(deps, { ...about, kind: 'version.publish', facts: { version, digest } }),
    ...tags.map((facts) => appendEvent(deps, { ...about, kind: 'tag.move', facts })),
  ])
}

async function recordFailure(deps: RegistryDeps, upload: Upload, e: GraftError): Promise<void> {
  await deps.catalogue.batch([
    sql(
      `UPDATE uploads SET state = 'failed', failure = ? WHERE id = ? AND state = 'verifying'`,
      JSON.stringify({ code: e.code, message: e.message }),
      upload.id,
    ),
  ])
  await deps.blobs.discard(upload.id).catch(() => {
    // What is left is the sweeper's.
  })
}

import { baseDigest, structureDigest } from '@graft/sdk/format/base-identity.ts'
import { canonicalBytes } from '@graft/sdk/format/canonical-json.ts'
import { type Digest, sha256 } from '@graft/sdk/format/digest.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import type { BaseIdentity } from '@graft/sdk/format/manifest.ts'
import { parseBaseIdentity } from '@graft/sdk/format/parse-manifest.ts'
import { parseStrictJson } from '@graft/sdk/format/strict-json.ts'
import type { BaseRecord } from '@graft/sdk/protocol/registry-api.ts'
import { newId, nowIso, type RegistryDeps } from '../deps.ts'
import { type Caller, requireScope } from '../identity/caller.ts'
import { readAll, streamOf } from '../stores/blob-store.ts'
import { first, sql } from '../stores/catalogue.ts'
import { eventRow } from './events.ts'

export async function findBase(deps: RegistryDeps, digest: Digest): Promise<BaseRecord | null> {
  const row = await first<{ identity: string; tensors: Digest }>(
    deps.catalogue,
    'SELECT identity, tensors FROM bases WHERE digest = ?',
    digest,
  )
  if (row === null) return null
  const body = await deps.blobs.get(row.tensors)
  if (body === null) throw new Error(`base ${digest}: blob ${row.tensors} is gone from the store`)
  const bytes = await readAll(body, deps.limits.manifest, `tensors of base ${digest}`)
  const tensors = parseStrictJson(bytes, 'tensors') as unknown as BaseRecord['tensors']
  return { digest, identity: JSON.parse(row.identity) as BaseIdentity, tensors }
}

/** Bases of that name, or all, newest last; their tensors are left out. */
export async function listBases(deps: RegistryDeps, name: string | null): Promise<BaseRecord[]> {
  const rows = await deps.catalogue.query<{ digest: Digest; identity: string }>(
    `SELECT digest, identity FROM bases WHERE ? IS NULL OR name = ?
      ORDER BY created_at, digest LIMIT 1000`,
    [name, name],
  )
  return rows.map((row) => ({
    digest: row.digest,
    identity: JSON.parse(row.identity) as BaseIdentity,
    tensors: [],
  }))
}

/** What a caller sends; nothing of it is believed that can be computed. */
export interface BaseRequest {
  digest: Digest
  identity: unknown
  tensors: BaseRecord['tensors']
}

/** Again is the same as once. @throws ERR_MANIFEST_INVALID, ERR_DIGEST_MISMATCH */
export async function registerBase(
  deps: RegistryDeps,
  caller: Caller,
  request: BaseRequest,
): Promise<BaseRecord> {
  requireScope(caller, 'publish')
  const identity = parseBaseIdentity(request.identity, 'identity')
  const differs = (where: string, want: string, got: string) =>
    new GraftError('ERR_DIGEST_MISMATCH', expected(where, want, got))
  const digest = await baseDigest(identity)
  if (digest !== request.digest) throw differs('digest', digest, request.digest)
  const { tensors } = request
  const plain = await structureDigest(tensors, false)
  const typed = await structureDigest(tensors, true)
  if (plain !== identity.structure) throw differs('tensors: structure', identity.structure, plain)
  if (typed !== identity.structureWithDtype)
    throw differs('tensors: structure with dtypes', identity.structureWithDtype, typed)
  const known = await findBase(deps, digest)
  if (known) return known
  const list = await storeTensors(deps, tensors)
  await deps.catalogue.batch([
    sql(
      `INSERT INTO bases (digest, name, identity, tensors, created_at, created_by)
       VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (digest) DO NOTHING`,
      digest,
      identity.name,
      JSON.stringify(identity),
      list,
      nowIso(deps),
      caller.sub,
    ),
    eventRow(deps, caller, 'base.register', digest),
  ])
  return { digest, identity, tensors }
}

/** A blob, not a column: experts make lists of megabytes, and a row of D1 holds two at most. */
async function storeTensors(deps: RegistryDeps, tensors: BaseRecord['tensors']): Promise<Digest> {
  const bytes = canonicalBytes(tensors)
  const digest = await sha256(bytes)
  const upload = `base-${newId(deps)}`
  await deps.blobs.stage(upload, digest, bytes.length, streamOf(bytes))
  await deps.blobs.promote(upload, digest)
  await deps.blobs.discard(upload)
  return digest
}

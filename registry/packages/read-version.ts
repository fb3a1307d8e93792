import { decodeBase64url, encodeBase64url } from '@graft/sdk/format/base64url.ts'
import type { Digest } from '@graft/sdk/format/digest.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import type { SignedEnvelope } from '@graft/sdk/format/manifest.ts'
import type { VersionRecord } from '@graft/sdk/protocol/registry-api.ts'
import type { RegistryDeps } from '../deps.ts'
import type { Reader } from '../identity/authenticate.ts'
import { listPublisherKeys } from '../identity/publisher-keys.ts'
import type { StoredAttestation } from '../publish/uploads.ts'
import { readAll } from '../stores/blob-store.ts'
import { first } from '../stores/catalogue.ts'
import { READABLE } from './readable.ts'
import { STATE_COLUMNS, type StateColumns, stateMember, stateOf, withdrawn } from './states.ts'

const unknown = (digest: Digest) =>
  new GraftError(
    'ERR_VERSION_UNKNOWN',
    `no version with manifest ${digest} is known here, or it is private and the token cannot read it`,
  )

interface Row extends StateColumns {
  org: string
  open: number
  signatures: string
  attestations: string
  published_at: string
}

/** @throws ERR_VERSION_UNKNOWN, alike for a manifest that does not exist and for one that may not be read; with the reason for one that was removed */
async function findReadable(deps: RegistryDeps, reader: Reader, digest: Digest): Promise<Row> {
  const row =
    reader.only !== null && reader.only !== digest
      ? null
      : await first<Row>(
          deps.catalogue,
          `SELECT p.org, p.visibility = 'public' AS open, v.signatures, v.attestations, v.published_at,
                ${STATE_COLUMNS}
           FROM versions v JOIN packages p ON p.name = v.package
          WHERE v.digest = ? AND ${READABLE}`,
          digest,
          reader.tenant,
        )
  if (row === null) throw unknown(digest)
  if (row.tombstoned === null) return row
  throw new GraftError(
    'ERR_VERSION_UNKNOWN',
    `the version with manifest ${digest} ${withdrawn(stateOf(row))}; its bytes are gone, use another version`,
  )
}

/** @throws what findReadable throws */
export async function assertReadable(
  deps: RegistryDeps,
  reader: Reader,
  digest: Digest,
): Promise<void> {
  await findReadable(deps, reader, digest)
}

/** A version with all that is needed to check it offline. @throws ERR_VERSION_UNKNOWN */
export async function readVersion(
  deps: RegistryDeps,
  reader: Reader,
  digest: Digest,
): Promise<{ record: VersionRecord; isPublic: boolean }> {
  const row = await findReadable(deps, reader, digest)
  const envelope = async (blob: Digest, signatures: SignedEnvelope['signatures']) => {
    const body = await deps.blobs.get(blob)
    if (body === null) throw new Error(`version ${digest}: blob ${blob} is gone from the store`)
    const bytes = await readAll(body, deps.limits.manifest, `blob ${blob}`)
    return { payload: encodeBase64url(bytes), signatures }
  }
  const attestations = JSON.parse(row.attestations) as StoredAttestation[]
  const signed = [
    await envelope(digest, JSON.parse(row.signatures)),
    ...(await Promise.all(attestations.map((a) => envelope(a.blob, a.signatures)))),
  ]
  const kids = new Set(signed.flatMap((e) => e.signatures.map((s) => kidOf(s.protected))))
  const keys = await listPublisherKeys(deps, row.org)
  return {
    record: {
      digest,
      envelope: signed[0]!,
      attestations: signed.slice(1),
      keys: keys.filter((key) => kids.has(key.kid)),
      publishedAt: row.published_at,
      ...stateMember(stateOf(row)),
    },
    isPublic: row.open === 1,
  }
}

/** Of a header that was verified when it was published. */
const kidOf = (header: string): string =>
  (JSON.parse(new TextDecoder().decode(decodeBase64url(header))) as { kid: string }).kid

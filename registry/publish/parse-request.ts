import { decodeBase64url } from '@graft/sdk/format/base64url.ts'
import { type Digest, sha256 } from '@graft/sdk/format/digest.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import { verifyEnvelope } from '@graft/sdk/format/jws.ts'
import {
  GOLDENS_PREDICATE,
  type Goldens,
  JWS_TYPES,
  type JwsType,
  type Manifest,
  type SignedEnvelope,
} from '@graft/sdk/format/manifest.ts'
import { parseManifest } from '@graft/sdk/format/parse-manifest.ts'
import { isAbout, parseStatement } from '@graft/sdk/format/statements.ts'
import type { PublisherKey, PublishRequest } from '@graft/sdk/protocol/registry-api.ts'

/** What a blob of a version is for. */
export type BlobRole = 'manifest' | 'attestation' | 'goldens' | 'canonical' | 'origin' | 'card'

export interface NamedBlob {
  digest: Digest
  size: number
  role: BlobRole
}

export interface ParsedRequest {
  manifest: Manifest
  digest: Digest
  manifestBytes: Uint8Array
  attestations: { digest: Digest; bytes: Uint8Array; signatures: SignedEnvelope['signatures'] }[]
  goldens: Goldens[]
  /** Every file that the manifest and its goldens name, each once. */
  blobs: NamedBlob[]
}

/** The envelope's payload by itself, before anything vouches for it: it says whose keys to ask. */
export const readManifest = (envelope: SignedEnvelope): Manifest =>
  parseManifest(decodeBase64url(envelope.payload, 'envelope.payload'))

/** @throws ERR_KEY_REVOKED when a signature is of a key that no longer counts, and what verifyEnvelope throws */
async function verified(
  envelope: SignedEnvelope,
  typ: JwsType,
  keys: readonly PublisherKey[],
): Promise<Uint8Array> {
  const { payload, kids } = await verifyEnvelope(
    envelope,
    typ,
    keys.map((key) => key.jwk),
  )
  const revoked = kids.find((kid) => keys.find((key) => key.kid === kid)?.status === 'revoked')
  if (revoked === undefined) return payload
  throw new GraftError(
    'ERR_KEY_REVOKED',
    `the signature is of key ${revoked}, which was revoked; sign with an active key`,
  )
}

/**
 * All that can be known of a publish request without its blobs. `keys` are the organisation's, revoked ones too.
 * @throws ERR_SIGNATURE_INVALID, ERR_KEY_UNKNOWN, ERR_KEY_REVOKED, ERR_MANIFEST_INVALID, ERR_CRITICAL_UNKNOWN,
 *   ERR_DIGEST_MISMATCH, ERR_REQUEST_INVALID
 */
export async function parseRequest(
  request: Pick<PublishRequest, 'envelope' | 'attestations'>,
  keys: readonly PublisherKey[],
): Promise<ParsedRequest> {
  const manifestBytes = await verified(request.envelope, JWS_TYPES.manifest, keys)
  const manifest = parseManifest(manifestBytes)
  const digest = await sha256(manifestBytes)
  const files = manifest.files.map(
    ({ sha256, size, role }): NamedBlob => ({ digest: sha256, size, role }),
  )
  const attestations: ParsedRequest['attestations'] = []
  const goldens: Goldens[] = []
  for (const [i, envelope] of request.attestations.entries()) {
    const bytes = await verified(envelope, JWS_TYPES.attestation, keys)
    const statement = parseStatement(bytes)
    if (!isAbout(statement, digest))
      throw new GraftError(
        'ERR_DIGEST_MISMATCH',
        expected(`attestations[${i}]: subject`, digest, statement.subject[0]?.digest.sha256),
      )
    attestations.push({ digest: await sha256(bytes), bytes, signatures: envelope.signatures })
    if (statement.predicateType === GOLDENS_PREDICATE) {
      const { logits } = statement.predicate as Goldens
      goldens.push(statement.predicate as Goldens)
      files.push({ digest: logits.sha256, size: logits.size, role: 'goldens' })
    }
  }
  const blobs = new Map<Digest, NamedBlob>()
  for (const file of files) {
    const known = blobs.get(file.digest)
    if (known && known.size !== file.size)
      throw new GraftError(
        'ERR_MANIFEST_INVALID',
        expected(`blob ${file.digest}: size`, 'the same wherever it is named', file.size),
      )
    // The canonical file is listed by role, so its row must win over a second name for the same bytes.
    if (!known || file.role === 'canonical') blobs.set(file.digest, file)
  }
  return { manifest, digest, manifestBytes, attestations, goldens, blobs: [...blobs.values()] }
}

/** @throws ERR_REQUEST_INVALID unless exactly the blobs that the signed documents name were declared */
export function assertDeclared(
  declared: PublishRequest['blobs'],
  named: readonly NamedBlob[],
): void {
  const sizes = new Map(declared.map((blob) => [blob.digest, blob.size]))
  const differs = (what: string, got: unknown): never => {
    throw new GraftError('ERR_REQUEST_INVALID', expected('blobs', what, got))
  }
  if (sizes.size !== declared.length) differs('named once each', declared.length)
  for (const { digest, size } of named)
    if (sizes.get(digest) !== size)
      differs(`with ${digest} of ${size} bytes, which is signed`, sizes.get(digest) ?? 'none')
  if (sizes.size > named.length) {
    const known = new Set(named.map((blob) => blob.digest))
    differs(
      'only what the manifest or goldens name',
      [...sizes.keys()].find((d) => !known.has(d)),
    )
  }
}

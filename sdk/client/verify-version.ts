import { type Digest, sha256 } from '../format/digest.ts'
import { expected, GraftError } from '../format/errors.ts'
import { verifyEnvelope } from '../format/jws.ts'
import { assertKeysCount, type KeyHistory } from '../format/key-epochs.ts'
import { JWS_TYPES, type Manifest, type Statement } from '../format/manifest.ts'
import { parseManifest } from '../format/parse-manifest.ts'
import { isAbout, parseStatement } from '../format/statements.ts'
import type { PublisherKey, VersionRecord } from '../protocol/registry-api.ts'

/** A version whose every signature was verified and whose bytes hash to its digest. */
export interface VerifiedVersion {
  digest: Digest
  manifest: Manifest
  /** Key ids that signed the manifest. */
  signers: string[]
  /** Signed statements about this manifest (goldens, evaluations). */
  attestations: { statement: Statement; signers: string[] }[]
  /** As the registry answered, to be kept beside the files. */
  record: VersionRecord
}

/**
 * Proves a registry's answer, offline. A revoked key vouches for nothing.
 * @param signers when given, one of these keys must have signed the manifest
 * @throws ERR_DIGEST_MISMATCH, ERR_SIGNATURE_INVALID, ERR_KEY_UNKNOWN, ERR_KEY_REVOKED, ERR_MANIFEST_INVALID
 */
export async function verifyVersion(
  record: VersionRecord,
  digest: Digest,
  signers: readonly string[] = [],
): Promise<VerifiedVersion> {
  const jwks = record.keys.map(({ jwk }) => jwk)
  const { payload, kids } = await verifyEnvelope(record.envelope, JWS_TYPES.manifest, jwks)
  const got = await sha256(payload)
  if (got !== digest)
    throw new GraftError('ERR_DIGEST_MISMATCH', expected('the signed manifest', digest, got))
  assertKeysCount(kids, record.keys.map(historyOf), record.publishedAt)
  if (signers.length > 0 && !kids.some((kid) => signers.includes(kid)))
    throw new GraftError(
      'ERR_KEY_UNKNOWN',
      `${expected('a signer', `one of ${signers.join(', ')}`, kids.join(', '))}; do not use it unless its publisher changed keys`,
    )
  const attestations = []
  for (const [i, envelope] of record.attestations.entries()) {
    const verified = await verifyEnvelope(envelope, JWS_TYPES.attestation, jwks)
    // A statement may come after the version, with a key that came after it too: its own time is not known here.
    assertNotRevoked(verified.kids, record.keys)
    const statement = parseStatement(verified.payload)
    if (!isAbout(statement, digest))
      throw new GraftError(
        'ERR_DIGEST_MISMATCH',
        expected(`attestation ${i}: subject`, digest, statement.subject[0]?.digest.sha256),
      )
    attestations.push({ statement, signers: verified.kids })
  }
  return { digest, manifest: parseManifest(payload), signers: kids, attestations, record }
}

/** A registry's key is in use from the day it was added. */
const historyOf = ({ kid, status, createdAt }: PublisherKey): KeyHistory => ({
  kid,
  epochs: [{ from: createdAt, until: null }],
  revoked: status !== 'active',
})

function assertNotRevoked(kids: string[], keys: PublisherKey[]): void {
  const revoked = kids.find((kid) => keys.some((key) => key.kid === kid && key.status !== 'active'))
  if (revoked === undefined) return
  throw new GraftError(
    'ERR_KEY_REVOKED',
    `key ${revoked} signed this and was revoked since; ask the publisher for a newer version`,
  )
}

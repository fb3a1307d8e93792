import { createHash } from 'node:crypto'
import { baseDigest } from '@graft/sdk/format/base-identity.ts'
import { exactRank, kindToRun, runsAsLowRank } from '@graft/sdk/format/dense/as-low-rank.ts'
import { type CreateHash, type Digest, fromHex } from '@graft/sdk/format/digest.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import { verifyEnvelope } from '@graft/sdk/format/jws.ts'
import { GOLDENS_PREDICATE, type Goldens, type Manifest } from '@graft/sdk/format/manifest.ts'
import type { Operation } from '@graft/sdk/format/operations.ts'
import { parseManifest } from '@graft/sdk/format/parse-manifest.ts'
import { slotsOf } from '@graft/sdk/format/slots.ts'
import { isAbout, parseStatement } from '@graft/sdk/format/statements.ts'
import { parseStrictJson } from '@graft/sdk/format/strict-json.ts'
import type { VersionRecord } from '@graft/sdk/protocol/registry-api.ts'
import type { AdapterFacts } from './adapter-facts.ts'

/** Node's own hash, which is quicker than WebCrypto's for many small tensors and takes pieces. */
export const nodeHash: CreateHash = () => {
  const hash = createHash('sha256')
  return { update: (bytes) => void hash.update(bytes), digest: () => fromHex(hash.digest('hex')) }
}

/** Of bytes in memory. */
export const sha256Of = (bytes: Uint8Array): Digest =>
  fromHex(createHash('sha256').update(bytes).digest('hex'))

/**
 * Checks every signature of a version record against the keys that come with it, and what is signed against the
 * digest that was asked for.
 * @throws ERR_SIGNATURE_INVALID, ERR_KEY_UNKNOWN, ERR_KEY_REVOKED, ERR_DIGEST_MISMATCH, ERR_MANIFEST_INVALID
 */
export async function verifyRecord(bytes: Uint8Array, digest: Digest): Promise<AdapterFacts> {
  const record = parseStrictJson(bytes, 'version record') as unknown as VersionRecord
  if (!record?.envelope || !Array.isArray(record.attestations) || !Array.isArray(record.keys))
    throw new GraftError(
      'ERR_MANIFEST_INVALID',
      expected('version record', 'envelope, attestations and keys', Object.keys(record ?? {})),
    )
  const keys = record.keys.map((key) => key.jwk)
  const { payload, kids } = await verifyEnvelope(record.envelope, 'graft-manifest+jws', keys)
  const signers = [...kids]
  const got = sha256Of(payload)
  if (got !== digest)
    throw new GraftError(
      'ERR_DIGEST_MISMATCH',
      `manifest from the registry must hash to ${digest}, got ${got}; nothing was loaded`,
    )
  const manifest = parseManifest(payload)
  let goldens: Goldens | null = null
  for (const envelope of record.attestations) {
    const signed = await verifyEnvelope(envelope, 'graft-attestation+jws', keys)
    signers.push(...signed.kids)
    const statement = parseStatement(signed.payload)
    if (!isAbout(statement, digest))
      throw new GraftError(
        'ERR_MANIFEST_INVALID',
        `an attestation of ${manifest.name}@${manifest.version} is about another manifest`,
      )
    if (statement.predicateType === GOLDENS_PREDICATE) goldens ??= statement.predicate as Goldens
  }
  const revoked = record.keys.find((key) => key.status === 'revoked' && signers.includes(key.kid))
  if (revoked)
    throw new GraftError(
      'ERR_KEY_REVOKED',
      `${manifest.name}@${manifest.version} is signed by key ${revoked.kid}, which its owner revoked`,
    )
  return { ...(await factsOf(manifest, digest)), goldens }
}

async function factsOf(manifest: Manifest, digest: Digest): Promise<Omit<AdapterFacts, 'goldens'>> {
  const { name, version, base, operations, tensors, files } = manifest
  const file = files.find((row) => row.role === 'canonical')
  const f32Bytes = tensors.reduce((sum, { shape }) => sum + bytesOf(shape), 0)
  if (!file) throw new GraftError('ERR_MANIFEST_INVALID', `${name}: files must name the tensors`)
  return {
    digest,
    name,
    version,
    base: { name: base.name, digest: await baseDigest(base) },
    file: { digest: file.sha256, size: file.size },
    operations: [...Map.groupBy(operations, kindToRun)].map(([op, [first]]) => ({
      op,
      site: first!.site,
    })),
    virtualTokens: Math.max(
      0,
      ...operations.map((op) => ('virtualTokens' in op ? op.virtualTokens : 0)),
    ),
    f32Bytes,
    runBytes: f32Bytes + operations.reduce((sum, op) => sum + grownBytes(op), 0),
  }
}

/** As f32. */
const bytesOf = (shape: readonly number[]): number => 4 * shape.reduce((n, dim) => n * dim, 1)

/** By how much the factors that a batch runs are larger than the tensors that they are made of. */
function grownBytes(op: Operation): number {
  if (op.op !== 'dense' || !runsAsLowRank(op)) return 0
  const own = slotsOf(op).reduce((sum, { shape }) => sum + bytesOf(shape), 0)
  return bytesOf([exactRank(op)!, op.in + op.out]) - own
}

/**
 * The manifest of a record whose signatures were verified before: only that these are the same bytes is checked.
 * null when they are not.
 */
export function knownManifest(record: Uint8Array, digest: Digest): Manifest | null {
  try {
    const { envelope } = JSON.parse(new TextDecoder().decode(record)) as VersionRecord
    const payload = Buffer.from(envelope.payload, 'base64url')
    return sha256Of(payload) === digest ? (JSON.parse(payload.toString()) as Manifest) : null
  } catch {
    return null
  }
}

import type { BaseTensor } from '@graft/sdk/format/base-identity.ts'
import { type Digest, sha256 } from '@graft/sdk/format/digest.ts'
import { toFloat32 } from '@graft/sdk/format/dtypes.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import { verifyEnvelope } from '@graft/sdk/format/jws.ts'
import { GOLDENS_PREDICATE, type Goldens, type Manifest } from '@graft/sdk/format/manifest.ts'
import { parseManifest } from '@graft/sdk/format/parse-manifest.ts'
import { readSafetensors } from '@graft/sdk/format/safetensors.ts'
import { isAbout, parseStatement } from '@graft/sdk/format/statements.ts'
import { parseStrictJson } from '@graft/sdk/format/strict-json.ts'
import { verifyAdapter } from '@graft/sdk/format/verify-adapter.ts'
import type { VersionRecord } from '@graft/sdk/protocol/registry-api.ts'
import type { LoadedAdapter } from '../engine/engine.ts'

/** A version whose signatures and digest hold. */
export interface VerifiedRecord {
  digest: Digest
  manifest: Manifest
  /** The file with the tensors. */
  file: { digest: Digest; size: number }
  /** null when nobody signed any. */
  goldens: Goldens | null
}

/** An adapter proven by its bytes, ready for a bank. */
export interface VerifiedAdapter extends VerifiedRecord {
  loaded: LoadedAdapter
  /** What it takes in host memory. */
  bytes: number
}

/**
 * Checks every signature of a version record against the keys that come with it, and what is signed against the
 * digest that was asked for.
 * @throws ERR_SIGNATURE_INVALID, ERR_KEY_UNKNOWN, ERR_KEY_REVOKED, ERR_DIGEST_MISMATCH, ERR_MANIFEST_INVALID
 */
export async function verifyRecord(bytes: Uint8Array, digest: Digest): Promise<VerifiedRecord> {
  const record = parseStrictJson(bytes, 'version record') as unknown as VersionRecord
  if (!record?.envelope || !Array.isArray(record.attestations) || !Array.isArray(record.keys))
    throw new GraftError(
      'ERR_MANIFEST_INVALID',
      expected('version record', 'envelope, attestations and keys', Object.keys(record ?? {})),
    )
  const keys = record.keys.map((key) => key.jwk)
  const { payload, kids } = await verifyEnvelope(record.envelope, 'graft-manifest+jws', keys)
  const signers = [...kids]
  const got = await sha256(payload)
  if (got !== digest)
    throw new GraftError(
      'ERR_DIGEST_MISMATCH',
      `manifest from the registry must hash to ${digest}, got ${got}; nothing was loaded`,
    )
  const manifest = parseManifest(payload)
  const file = manifest.files.find((row) => row.role === 'canonical')
  if (!file)
    throw new GraftError('ERR_MANIFEST_INVALID', `${manifest.name}: files must name the tensors`)
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
  return { digest, manifest, file: { digest: file.sha256, size: file.size }, goldens }
}

/** Proves the tensors against manifest and base, and turns them into f32. @throws as verifyAdapter */
export async function verifyTensors(
  record: VerifiedRecord,
  bytes: Uint8Array,
  base: readonly BaseTensor[],
): Promise<VerifiedAdapter> {
  await verifyAdapter(record.manifest, bytes, base)
  const tensors: LoadedAdapter['tensors'] = new Map()
  let size = 0
  for (const [name, { dtype, shape, data }] of readSafetensors(bytes).tensors) {
    const values = toFloat32(dtype, data)
    size += values.byteLength
    tensors.set(name, { shape, data: values })
  }
  const { operations } = record.manifest
  return { ...record, loaded: { digest: record.digest, operations, tensors }, bytes: size }
}

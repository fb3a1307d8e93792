import { decodeBase64 } from '../format/base64url.ts'
import type { Digest } from '../format/digest.ts'
import { expected, GraftError, isGraftError } from '../format/errors.ts'
import { logEntry } from '../format/log-entry.ts'
import { parseStrictJson } from '../format/strict-json.ts'
import type { Checkpoint } from '../format/tlog/checkpoint.ts'
import { HASH_BYTES, type Hash, leafHash, sameHash } from '../format/tlog/hash.ts'
import { nodesOfTiles, type ReadTile } from '../format/tlog/tile-nodes.ts'
import { proveConsistency } from '../format/tlog/tree.ts'
import { verifyConsistency, verifyInclusion } from '../format/tlog/verify-proofs.ts'
import type { LogProof } from '../protocol/log.ts'
import type { LogClient } from './log-client.ts'
import { type CheckpointPolicy, verifyCheckpoint } from './verify-checkpoint.ts'

/** What a client keeps of a log between calls; losing it loses the memory of what was shown before. */
export interface LogMemory {
  /** Verifier key of the log, as first seen or as pinned. */
  key: string
  /** The newest checkpoint that was verified, a signed note. */
  checkpoint: string | null
}

/** What the log is asked about. */
export interface LoggedVersion {
  /** `@scope/name`. */
  name: string
  version: string
  digest: Digest
}

export interface VerifiedLogProof {
  index: number
  /** ISO 8601: when it was logged. */
  at: string
  checkpoint: Checkpoint
}

const forged = (message: string, cause?: unknown): GraftError =>
  new GraftError('ERR_DIGEST_MISMATCH', message, { cause })

/** More levels than any tree has. */
const MAX_PROOF_HASHES = 64

function decodeHashes(hashes: unknown): Hash[] {
  const refuse = () => forged(expected('log proof: hashes', 'hashes of 32 bytes in base64', hashes))
  if (!Array.isArray(hashes) || hashes.length > MAX_PROOF_HASHES) throw refuse()
  return hashes.map((text: unknown) => {
    const hash = typeof text === 'string' ? decodeBase64(text, 'log proof: hash') : null
    if (hash?.length !== HASH_BYTES) throw refuse()
    return hash
  })
}

/** The entry says its time and nothing else that is not known: all of it is said again, and must come out the same. */
async function assertAbout(what: LoggedVersion, proof: LogProof): Promise<string> {
  const entry = parseStrictJson(new TextEncoder().encode(proof.entry), 'log entry')
  const at = (entry as { at?: unknown } | null)?.at
  const salt = proof.salt === undefined ? null : decodeBase64(proof.salt, 'log proof: salt')
  const { name, version, digest } = what
  const facts = { version, digest }
  const event = { kind: 'version.publish' as const, package: name, private: salt !== null, facts }
  const said =
    typeof at === 'string' && (await logEntry(event, at, salt ?? new Uint8Array(0))) === proof.entry
  if (said) return at
  throw forged(
    expected(
      `entry ${proof.index} of the log`,
      `about ${name}@${version} ${digest}`,
      `${proof.entry}${salt === null ? '' : ' with the salt that came with it'}`,
    ),
  )
}

/**
 * Proves, offline, that the publication of a version is in the log of this key.
 * @param key verifier key
 * @throws ERR_SIGNATURE_INVALID for a checkpoint that is not the log's or too old, ERR_DIGEST_MISMATCH for a forged proof
 * and for an entry about something else
 */
export async function verifyLogProof(
  what: LoggedVersion,
  proof: LogProof,
  key: string,
  policy: CheckpointPolicy = {},
): Promise<VerifiedLogProof> {
  const checkpoint = await verifyCheckpoint(proof.checkpoint, key, policy)
  try {
    const at = await assertAbout(what, proof)
    const leaf = await leafHash(new TextEncoder().encode(proof.entry))
    await verifyInclusion(leaf, proof.index, checkpoint, decodeHashes(proof.hashes))
    return { index: proof.index, at, checkpoint }
  } catch (e) {
    // Whatever is wrong with the form of a proof makes it no proof.
    if (isGraftError(e) && e.code !== 'ERR_DIGEST_MISMATCH') throw forged(e.message, e)
    throw e
  }
}

const EVIDENCE =
  'do not use this registry, keep both checkpoints as evidence, and tell its operator and users'

/**
 * Holds what a log shows now against what it showed before, and remembers the newer.
 * @param note signed note
 * @param readTile of the tree that `note` signs
 * @throws ERR_DIGEST_MISMATCH when the log was rolled back, or shows a tree that does not continue the one before (a split
 * view); ERR_SIGNATURE_INVALID when the checkpoint is not the log's, or too old: then the log is kept from being seen
 */
export async function followLog(
  memory: LogMemory,
  note: string,
  readTile: ReadTile,
  policy: CheckpointPolicy = {},
): Promise<LogMemory> {
  const newer = await verifyCheckpoint(note, memory.key, policy)
  if (memory.checkpoint === null) return { ...memory, checkpoint: note }
  // What was remembered may be of any age: it is from then.
  const older = await verifyCheckpoint(memory.checkpoint, memory.key, { maxAgeSeconds: null })
  if (newer.size < older.size)
    throw forged(
      `the log of ${newer.origin} was rolled back: it had ${older.size} entries and shows ${newer.size}; ${EVIDENCE}`,
    )
  if (newer.size === older.size && !sameHash(newer.root, older.root))
    throw forged(
      `the log of ${newer.origin} shows two trees of ${newer.size} entries (a split view); ${EVIDENCE}`,
    )
  if (newer.size > older.size) {
    const proof = await proveConsistency(older.size, newer.size, nodesOfTiles(newer.size, readTile))
    await verifyConsistency(older, newer, proof).catch((e: Error) => {
      throw forged(`${newer.origin}: ${e.message} (a split view); ${EVIDENCE}`, e)
    })
  }
  return { ...memory, checkpoint: note }
}

export interface CheckedLog extends VerifiedLogProof {
  proof: LogProof
  /** To be stored, and given the next time. */
  memory: LogMemory
}

/**
 * Everything about a pulled version and its registry's log: that it is in the log, that the log is fresh, and that it goes on
 * from what it showed before.
 * @param memory null at the first meeting: the key that the registry shows is then believed, as SSH does
 */
export async function checkLog(
  log: LogClient,
  what: LoggedVersion,
  memory: LogMemory | null,
  policy: CheckpointPolicy = {},
): Promise<CheckedLog> {
  const known = memory ?? { key: (await log.key()).key, checkpoint: null }
  const proof = await log.proof(what.digest)
  const verified = await verifyLogProof(what, proof, known.key, policy)
  const next = await followLog(known, proof.checkpoint, (tile) => log.tile(tile), policy)
  return { ...verified, proof, memory: next }
}

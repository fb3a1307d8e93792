import { expected, GraftError } from '../format/errors.ts'
import { type Checkpoint, parseCheckpoint } from '../format/tlog/checkpoint.ts'
import { verifyNote } from '../format/tlog/note-signatures.ts'
import { type Note, parseNote } from '../format/tlog/signed-note.ts'
import { NOTE_SIGNATURE, noteKey, parseVerifierKey } from '../format/tlog/verifier-key.ts'

/** What a checkpoint must be to be believed. */
export interface CheckpointPolicy {
  /** Seconds since the log signed; null: any age, for what was kept. @default 3600 */
  maxAgeSeconds?: number | null
  /** @default the clock's */
  now?: Date
  /** Verifier keys (cosignature/v1) of witnesses that one trusts. @default none */
  witnesses?: readonly string[]
  /** How many of them must have cosigned. @default all */
  quorum?: number
}

/** Seconds. A registry signs anew every minute that it is asked; this leaves room for clocks that go wrong. */
export const DEFAULT_MAX_AGE_SECONDS = 3600
/** Seconds that the log's clock may be ahead of ours. */
const AHEAD_SECONDS = 3600

const refuse = (message: string): GraftError => new GraftError('ERR_SIGNATURE_INVALID', message)

/** The log's own cosignature states when it signed. */
async function assertFresh(note: Note, key: string, policy: CheckpointPolicy): Promise<void> {
  const most = policy.maxAgeSeconds === undefined ? DEFAULT_MAX_AGE_SECONDS : policy.maxAgeSeconds
  if (most === null) return
  const { name, publicJwk } = await parseVerifierKey(key)
  const timed = await verifyNote(note, await noteKey(name, NOTE_SIGNATURE.cosignature, publicJwk))
  if (timed?.time == null)
    throw refuse(`the checkpoint of ${name} does not say when it was signed; ask for a newer one`)
  const now = Math.floor((policy.now ?? new Date()).getTime() / 1000)
  const age = now - timed.time
  if (age > most)
    throw refuse(
      `the checkpoint of ${name} is ${age} seconds old and may be ${most}: somebody keeps newer ones away, or a clock is wrong`,
    )
  if (age < -AHEAD_SECONDS)
    throw refuse(`the checkpoint of ${name} is from ${-age} seconds ahead: a clock is wrong`)
}

async function assertWitnessed(note: Note, policy: CheckpointPolicy): Promise<void> {
  const witnesses = policy.witnesses ?? []
  const quorum = policy.quorum ?? witnesses.length
  let seen = 0
  for (const text of new Set(witnesses)) {
    const key = await parseVerifierKey(text, 'witness')
    if (key.type !== NOTE_SIGNATURE.cosignature)
      throw new GraftError('ERR_KEY_UNKNOWN', expected('witness', 'a cosignature/v1 key', text))
    if ((await verifyNote(note, key)) !== null) seen++
  }
  if (seen < quorum)
    throw refuse(expected('witnesses of the checkpoint', `at least ${quorum} of yours`, seen))
}

/**
 * A checkpoint that the log of this key signed, fresh enough and witnessed enough.
 * @param text signed note
 * @param key verifier key of the log, whose name is the log's origin
 * @throws ERR_SIGNATURE_INVALID, ERR_KEY_UNKNOWN when no signature is of this key
 */
export async function verifyCheckpoint(
  text: string,
  key: string,
  policy: CheckpointPolicy = {},
): Promise<Checkpoint> {
  const note = parseNote(text)
  const log = await parseVerifierKey(key)
  if ((await verifyNote(note, log)) === null)
    throw new GraftError(
      'ERR_KEY_UNKNOWN',
      `the checkpoint is not signed by ${key}, the log's key when it was first seen; if its operator did not say why, do not use it`,
    )
  const checkpoint = parseCheckpoint(note.text)
  if (checkpoint.origin !== log.name)
    throw refuse(expected('origin of the checkpoint', log.name, checkpoint.origin))
  await assertFresh(note, key, policy)
  await assertWitnessed(note, policy)
  return checkpoint
}

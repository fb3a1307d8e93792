import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import { parseCheckpoint } from '@graft/sdk/format/tlog/checkpoint.ts'
import { sameHash } from '@graft/sdk/format/tlog/hash.ts'
import { verifyNote } from '@graft/sdk/format/tlog/note-signatures.ts'
import { formatSignature, parseNote, signatureOf } from '@graft/sdk/format/tlog/signed-note.ts'
import { treeRoot } from '@graft/sdk/format/tlog/tree.ts'
import { NOTE_SIGNATURE, parseVerifierKey } from '@graft/sdk/format/tlog/verifier-key.ts'
import type { RegistryDeps } from '../deps.ts'
import { type SqlStatement, sql } from '../stores/catalogue.ts'
import { currentCheckpoint, type SignedCheckpoint } from './checkpoint.ts'
import { logOrigin } from './origin.ts'
import { storedNodes } from './stored-tree.ts'

/** Seconds that a witness's clock may be ahead. */
const AHEAD_SECONDS = 300

/**
 * Takes in what witnesses say of a checkpoint of this log, of any size that it ever had. Of each witness the newest stays.
 * @returns how many signatures were those of known witnesses
 * @throws ERR_SIGNATURE_INVALID, ERR_KEY_UNKNOWN when no line is a known witness's, ERR_DIGEST_MISMATCH when the root is
 * not this log's: then somebody was shown another tree
 */
export async function acceptCosignatures(deps: RegistryDeps, text: string): Promise<number> {
  const note = parseNote(text)
  const seen = parseCheckpoint(note.text)
  const origin = logOrigin(deps.issuerName)
  if (seen.origin !== origin)
    throw new GraftError('ERR_SIGNATURE_INVALID', expected('origin', origin, seen.origin))
  const rows: SqlStatement[] = []
  const latest = Math.floor(deps.clock().getTime() / 1000) + AHEAD_SECONDS
  for (const witness of deps.witnesses) {
    const key = await parseVerifierKey(witness, 'witness')
    const verified = await verifyNote(note, key)
    if (verified === null) continue
    const at = verified.time
    if (at === null || at > latest)
      throw new GraftError(
        'ERR_SIGNATURE_INVALID',
        expected(`time of ${key.name}`, `at most ${latest}`, at),
      )
    const line = formatSignature(signatureOf(note, key)!)
    rows.push(
      sql(
        `INSERT INTO log_cosignatures (witness, size, at, line) VALUES (?, ?, ?, ?)
         ON CONFLICT (witness) DO UPDATE SET size = excluded.size, at = excluded.at, line = excluded.line
         WHERE excluded.size > size OR (excluded.size = size AND excluded.at > at)`,
        witness,
        seen.size,
        at,
        line,
      ),
    )
  }
  if (rows.length === 0)
    throw new GraftError(
      'ERR_KEY_UNKNOWN',
      `none of the ${note.signatures.length} signatures is of a witness known here; ask the operator to add your key`,
    )
  const { size } = await currentCheckpoint(deps)
  const same =
    seen.size <= size &&
    sameHash(await treeRoot(seen.size, storedNodes(deps.catalogue, seen.size)), seen.root)
  if (!same)
    throw new GraftError(
      'ERR_DIGEST_MISMATCH',
      `the cosigned tree of ${seen.size} leaves is none of this log, which has ${size}; keep the note, it is evidence of a split view`,
    )
  await deps.catalogue.batch(rows)
  return rows.length
}

/** The checkpoint with what witnesses said of this very tree. */
export async function withCosignatures(
  deps: RegistryDeps,
  { note, size }: SignedCheckpoint,
): Promise<string> {
  if (deps.witnesses.length === 0) return note
  const rows = await deps.catalogue.query<{ witness: string; line: string }>(
    'SELECT witness, line FROM log_cosignatures WHERE size = ? ORDER BY witness',
    [size],
  )
  return (
    note +
    rows
      .filter((row) => deps.witnesses.includes(row.witness))
      .map((r) => r.line)
      .join('')
  )
}

/**
 * What an operator may have set wrong, told at start.
 * @throws ERR_REQUEST_INVALID for a name that no note can carry, ERR_KEY_UNKNOWN for what is no key of cosignature/v1
 */
export async function assertLog(issuerName: string, witnesses: readonly string[]): Promise<void> {
  logOrigin(issuerName)
  for (const text of witnesses) {
    const { type } = await parseVerifierKey(text, 'witness')
    if (type !== NOTE_SIGNATURE.cosignature)
      throw new GraftError('ERR_KEY_UNKNOWN', expected('witness', 'a cosignature/v1 key', text))
  }
}

import { decodeBase64 } from '@graft/sdk/format/base64url.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import { type LogEvent, logEntry } from '@graft/sdk/format/log-entry.ts'
import { leafHash } from '@graft/sdk/format/tlog/hash.ts'
import { nowIso, type RegistryDeps } from '../deps.ts'
import { type SqlStatement, sql } from '../stores/catalogue.ts'
import { toHex } from './hex.ts'
import { findOrMakeSalt } from './salts.ts'

/** Bytes; a bundle of 256 such entries is 1 MiB. */
const MAX_ENTRY_BYTES = 4096

/**
 * The leaf of an event, to be committed in the very batch of the row that it is about: then neither is ever there without
 * the other, and the order of commits is the order of leaves. The database, which runs batches one after the other, is the
 * one sequencer. A checkpoint covers the leaf before the request is answered.
 * @param guard when given, a condition on which the leaf is written
 * @throws ERR_REQUEST_INVALID for facts too long to be logged
 */
export async function appendEvent(
  deps: RegistryDeps,
  event: LogEvent,
  guard: SqlStatement | null = null,
): Promise<SqlStatement> {
  const at = nowIso(deps)
  const hidden = 'package' in event && event.private
  const salt = hidden ? decodeBase64(await findOrMakeSalt(deps, event.package)) : new Uint8Array(0)
  const entry = await logEntry(event, at, salt)
  const bytes = new TextEncoder().encode(entry)
  if (bytes.length > MAX_ENTRY_BYTES)
    throw new GraftError(
      'ERR_REQUEST_INVALID',
      expected(`what is logged of ${event.kind}`, `at most ${MAX_ENTRY_BYTES} bytes`, bytes.length),
    )
  const subject = 'org' in event ? event.org : event.package
  return sql(
    `INSERT INTO log_leaves (i, at, kind, subject, digest, entry, hash)
     SELECT coalesce((SELECT max(i) FROM log_leaves), -1) + 1, ?, ?, ?, ?, ?, ?${guard ? ` WHERE ${guard.sql}` : ''}`,
    at,
    event.kind,
    subject,
    event.facts['digest'] ?? null,
    entry,
    toHex(await leafHash(bytes)),
    ...(guard?.params ?? []),
  )
}

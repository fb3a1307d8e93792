import type { LogRecord } from '../deps.ts'

/** One JSON line for every failure that is this server's own; all else is the caller's to read in the answer. */
export function logDefects(record: LogRecord): void {
  if (record.error === undefined) return
  const { error } = record
  const cause = error instanceof Error ? (error.stack ?? error.message) : String(error)
  console.error(JSON.stringify({ ...record, error: cause }))
}

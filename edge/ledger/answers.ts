import type { SyncSql } from './sql.ts'
import type { BookOperations } from './tenant-book.ts'

interface AnswerRow {
  fingerprint: string
  status: number | null
  headers: string | null
  body: string | null
}

/** Answers kept by Idempotency-Key, beside the money so that a replay and a charge can never disagree. */
export const answerKeeper = (
  sql: SyncSql,
  tenant: string,
): Pick<BookOperations, 'claimKey' | 'keepAnswer'> => ({
  claimKey: ({ key, fingerprint, now, expiresAt }) =>
    sql.transaction(() => {
      sql.query('DELETE FROM answers WHERE tenant = ? AND expires_at <= ?', tenant, now)
      const known = sql.query<AnswerRow>(
        'SELECT fingerprint, status, headers, body FROM answers WHERE tenant = ? AND key = ?',
        tenant,
        key,
      )[0]
      if (!known) {
        sql.query(
          'INSERT INTO answers (tenant, key, fingerprint, expires_at) VALUES (?, ?, ?, ?)',
          tenant,
          key,
          fingerprint,
          expiresAt,
        )
        return { state: 'new' }
      }
      if (known.fingerprint !== fingerprint) return { state: 'mismatch' }
      if (known.status === null) return { state: 'in_flight' }
      const headers = JSON.parse(known.headers ?? '{}') as Record<string, string>
      return { state: 'kept', status: known.status, headers, body: known.body ?? '' }
    }),

  keepAnswer: ({ key, answer, expiresAt }) => {
    if (answer === null) {
      sql.query('DELETE FROM answers WHERE tenant = ? AND key = ? AND status IS NULL', tenant, key)
      return
    }
    sql.query(
      `UPDATE answers SET status = ?, headers = ?, body = ?, expires_at = ?
       WHERE tenant = ? AND key = ?`,
      answer.status,
      JSON.stringify(answer.headers),
      answer.body,
      expiresAt,
      tenant,
      key,
    )
  },
})

export type SqlValue = string | number | null

/** The least a book needs of SQLite; node:sqlite and a Durable Object's storage both give it, without a wait. */
export interface SyncSql {
  /** Rows of one statement; [] when it returns none. */
  query<Row = Record<string, SqlValue>>(statement: string, ...values: SqlValue[]): Row[]
  /** Runs a script of several statements. */
  script(text: string): void
  /** All or nothing. The body is synchronous, so nothing else runs between its statements. */
  transaction<T>(body: () => T): T
}

/**
 * Applies the migrations not yet applied, in order. Append-only: a file, once released, never changes.
 * @param migrations texts of ledger/migrations/*.sql in order
 */
export function migrate(sql: SyncSql, migrations: string[]): void {
  sql.transaction(() => {
    sql.script('CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)')
    const done = sql.query<{ version: number }>(
      'SELECT max(version) AS version FROM schema_version',
    )
    for (let version = done[0]?.version ?? 0; version < migrations.length; version++) {
      sql.script(migrations[version]!)
      sql.query('INSERT INTO schema_version (version) VALUES (?)', version + 1)
    }
  })
}

import { readdirSync, readFileSync } from 'node:fs'
import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite'
import type { SyncSql } from '../ledger/sql.ts'

const MIGRATIONS = new URL('../ledger/migrations/', import.meta.url)

/** Texts of the ledger's migrations, in order. */
export const ledgerMigrations = (): string[] =>
  readdirSync(MIGRATIONS)
    .filter((name) => name.endsWith('.sql'))
    .sort()
    .map((name) => readFileSync(new URL(name, MIGRATIONS), 'utf8'))

/** @param path a file, or ":memory:". A commit is on the disk when it returns (synchronous=FULL). */
export function openSqlite(path: string): SyncSql & { inTransaction(): boolean; close(): void } {
  const db = new DatabaseSync(path)
  db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 5000;')
  const prepared = new Map<string, StatementSync>()
  function statement(text: string): StatementSync {
    const known = prepared.get(text) ?? db.prepare(text)
    prepared.set(text, known)
    return known
  }
  return {
    query: <Row>(text: string, ...values: SQLInputValue[]) =>
      statement(text).all(...values) as Row[],
    script: (text) => db.exec(text),
    // A transaction inside another is a savepoint: it fails alone, and is on the disk when the outer one is.
    transaction(body) {
      const [begin, commit, rollback] = db.isTransaction
        ? ['SAVEPOINT inner', 'RELEASE inner', 'ROLLBACK TO inner; RELEASE inner']
        : ['BEGIN IMMEDIATE', 'COMMIT', 'ROLLBACK']
      db.exec(begin)
      try {
        const result = body()
        db.exec(commit)
        return result
      } catch (error) {
        // SQLite rolls back by itself when the disk fails.
        if (db.isTransaction) db.exec(rollback)
        throw error
      }
    },
    inTransaction: () => db.isTransaction,
    close: () => db.close(),
  }
}

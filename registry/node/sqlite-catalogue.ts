import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync, type StatementSync } from 'node:sqlite'
import { GraftError } from '@graft/sdk/format/errors.ts'
import type { Catalogue } from '../stores/catalogue.ts'

export interface Migration {
  /** `0001-registry.sql`; migrations run in the order of their names. */
  name: string
  sql: string
}

export const readMigrations = (folder: string): Migration[] =>
  readdirSync(folder)
    .filter((name) => name.endsWith('.sql'))
    .sort()
    .map((name) => ({ name, sql: readFileSync(join(folder, name), 'utf8') }))

const digestOf = (text: string): string => createHash('sha256').update(text).digest('hex')

function transaction<T>(db: DatabaseSync, work: () => T): T {
  db.exec('BEGIN IMMEDIATE')
  try {
    const result = work()
    db.exec('COMMIT')
    return result
  } catch (e) {
    if (db.isTransaction) db.exec('ROLLBACK')
    throw e
  }
}

/** Applies what is new. @throws ERR_STATE_DAMAGED when what was applied before is not what the code brings */
function migrate(db: DatabaseSync, migrations: readonly Migration[], file: string): void {
  db.exec(
    'CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY, sha256 TEXT NOT NULL, at TEXT NOT NULL) STRICT',
  )
  const applied = db.prepare('SELECT name, sha256 FROM migrations ORDER BY name').all() as {
    name: string
    sha256: string
  }[]
  for (const [i, row] of applied.entries()) {
    const known = migrations[i]
    if (known?.name !== row.name || digestOf(known.sql) !== row.sha256)
      throw new GraftError(
        'ERR_STATE_DAMAGED',
        `${file} was written by another version: it holds migration ${row.name}, this one has ${known?.name ?? 'none'}; start the version that wrote it, or move the file away`,
      )
  }
  for (const { name, sql } of migrations.slice(applied.length))
    transaction(db, () => {
      db.exec(sql)
      db.prepare('INSERT INTO migrations (name, sha256, at) VALUES (?, ?, ?)').run(
        name,
        digestOf(sql),
        new Date().toISOString(),
      )
    })
}

/** Texts of SQL are fixed but for some that are put together of parts; beyond this many the oldest is prepared again. */
const MAX_PREPARED = 256

/** Prepares each text once: preparing is a quarter of what resolving takes. */
function preparing(db: DatabaseSync): (sql: string) => StatementSync {
  const known = new Map<string, StatementSync>()
  return (sql) => {
    const there = known.get(sql)
    if (there) return there
    const statement = db.prepare(sql)
    if (known.size >= MAX_PREPARED) known.delete(known.keys().next().value!)
    known.set(sql, statement)
    return statement
  }
}

/** The catalogue in one file; a commit that was answered survives a power cut (synchronous=FULL). */
export function openSqliteCatalogue(
  file: string,
  migrations: readonly Migration[],
): Catalogue & { close(): void } {
  const db = new DatabaseSync(file, { enableForeignKeyConstraints: true, timeout: 5000 })
  try {
    db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL')
    migrate(db, migrations, file)
  } catch (e) {
    db.close()
    throw e
  }
  const prepared = preparing(db)
  return {
    async query<Row extends object>(sql: string, params: readonly (string | number | null)[] = []) {
      return prepared(sql).all(...params) as Row[]
    },
    async batch(statements) {
      return transaction(db, () =>
        statements.map(({ sql, params }) => Number(prepared(sql).run(...params).changes)),
      )
    },
    close: () => db.close(),
  }
}

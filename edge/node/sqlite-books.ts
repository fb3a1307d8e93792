import { openBook } from '../ledger/book.ts'
import { migrate } from '../ledger/sql.ts'
import {
  type BookOperations,
  type TenantBook,
  type TenantBooks,
  tenantBook,
} from '../ledger/tenant-book.ts'
import { createGroupCommit } from './group-commit.ts'
import { ledgerMigrations, openSqlite } from './sqlite.ts'

export interface SqliteBooksOptions {
  /** A file, or ":memory:". */
  path: string
  currency: string
  clock: () => Date
}

/** All tenants' books in one SQLite file; the tenant is a column of every key. */
export function openSqliteBooks({ path, currency, clock }: SqliteBooksOptions): TenantBooks & {
  /** Resolves due holds of every tenant. @returns how many */
  expireDue(now: number): number
  close(): void
} {
  const sql = openSqlite(path)
  migrate(sql, ledgerMigrations())
  const commits = createGroupCommit(sql)
  const open = new Map<string, BookOperations>()
  function operations(tenant: string): BookOperations {
    const known = open.get(tenant) ?? openBook({ sql, tenant, currency, clock })
    open.set(tenant, known)
    return known
  }
  return {
    book(tenant): TenantBook {
      return tenantBook((name, input) =>
        commits.submit(() =>
          (operations(tenant)[name] as (...input: unknown[]) => unknown)(...input),
        ),
      )
    },
    expireDue(now) {
      const due = sql.query<{ tenant: string }>(
        `SELECT DISTINCT tenant FROM holds WHERE state = 'open' AND expires_at <= ?`,
        now,
      )
      return due.reduce((count, { tenant }) => count + operations(tenant).expireDue(now), 0)
    },
    close() {
      commits.flush()
      sql.close()
    },
  }
}

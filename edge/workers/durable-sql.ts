import type { SyncSql } from '../ledger/sql.ts'

/** SyncSql over a Durable Object's own SQLite database. */
export const durableSql = (storage: DurableObjectStorage): SyncSql => ({
  query: <Row>(statement: string, ...values: (string | number | null)[]) =>
    storage.sql.exec(statement, ...values).toArray() as Row[],
  script(text) {
    storage.sql.exec(text)
  },
  transaction: (body) => storage.transactionSync(body),
})

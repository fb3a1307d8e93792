import type { Catalogue, SqlStatement } from '../stores/catalogue.ts'

/** The catalogue in D1. `batch` is D1's only transaction, and foreign keys are always on. */
export function createD1Catalogue(db: D1Database): Catalogue {
  const prepare = ({ sql, params }: SqlStatement) => db.prepare(sql).bind(...params)
  return {
    async query<Row extends object>(sql: string, params: SqlStatement['params'] = []) {
      return (await prepare({ sql, params }).all<Row>()).results
    },
    async batch(statements) {
      const results = await db.batch(statements.map(prepare))
      return results.map((result) => result.meta.changes)
    },
  }
}

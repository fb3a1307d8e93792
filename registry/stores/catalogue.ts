export type SqlValue = string | number | null

export interface SqlStatement {
  sql: string
  params: readonly SqlValue[]
}

/**
 * The catalogue's SQL, in the dialect that D1 and node:sqlite share. Every read sees what was committed before it.
 * D1 allows 100 bound values a statement and 2 MB a row; stay below both.
 */
export interface Catalogue {
  query<Row extends object>(sql: string, params?: readonly SqlValue[]): Promise<Row[]>
  /** All of them in one transaction, in order, or none. Foreign keys are enforced. @returns changed rows of each */
  batch(statements: readonly SqlStatement[]): Promise<number[]>
}

export const sql = (text: string, ...params: SqlValue[]): SqlStatement => ({ sql: text, params })

/** The first row, or null. */
export async function first<Row extends object>(
  catalogue: Catalogue,
  text: string,
  ...params: SqlValue[]
): Promise<Row | null> {
  return (await catalogue.query<Row>(text, params))[0] ?? null
}

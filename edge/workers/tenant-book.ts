import { DurableObject } from 'cloudflare:workers'
import { type ErrorCode, GraftError, isGraftError } from '@graft/sdk/format/errors.ts'
import { HOLD_MS } from '../calls/call-hold.ts'
import { openBook } from '../ledger/book.ts'
import books from '../ledger/migrations/0001-books.sql'
import { migrate, type SyncSql } from '../ledger/sql.ts'
import {
  BOOK_OPERATIONS,
  type BookOperations,
  type TenantBooks,
  tenantBook,
} from '../ledger/tenant-book.ts'
import { durableSql } from './durable-sql.ts'

/** Texts of ledger/migrations/*.sql in order. */
const MIGRATIONS = [books]

/** An error crosses an RPC without its code, so a refusal travels as a value. */
export type BookAnswer =
  | { ok: true; value: unknown }
  | { ok: false; code: ErrorCode; message: string }

/** One tenant's book: one object, one queue of transactions, found by the tenant's name. */
export class TenantBookObject extends DurableObject {
  readonly #sql: SyncSql

  constructor(state: DurableObjectState, env: Cloudflare.Env) {
    super(state, env)
    this.#sql = durableSql(state.storage)
    migrate(this.#sql, MIGRATIONS)
  }

  #book(tenant: string, currency: string): BookOperations {
    return openBook({ sql: this.#sql, tenant, currency, clock: () => new Date() })
  }

  async run(
    tenant: string,
    currency: string,
    name: keyof BookOperations,
    input: unknown[],
  ): Promise<BookAnswer> {
    if (!BOOK_OPERATIONS.includes(name))
      return { ok: false, code: 'ERR_INTERNAL', message: `a book has no operation ${name}` }
    try {
      const operation = this.#book(tenant, currency)[name] as (...input: unknown[]) => unknown
      const value = operation(...input)
      // The alarm is what returns a hold whose edge is gone.
      if (name === 'hold' && (await this.ctx.storage.getAlarm()) === null)
        await this.ctx.storage.setAlarm(Date.now() + HOLD_MS)
      return { ok: true, value }
    } catch (error) {
      if (isGraftError(error)) return { ok: false, code: error.code, message: error.message }
      throw error
    }
  }

  override async alarm(): Promise<void> {
    const open = this.#sql.query<{ tenant: string; next: number }>(
      `SELECT tenant, min(expires_at) AS next FROM holds WHERE state = 'open' GROUP BY tenant`,
    )
    // Expiring moves amounts between accounts and needs no currency: only a balance names one.
    for (const { tenant } of open) this.#book(tenant, '').expireDue(Date.now())
    const [left] = this.#sql.query<{ next: number | null }>(
      `SELECT min(expires_at) AS next FROM holds WHERE state = 'open'`,
    )
    if (left?.next) await this.ctx.storage.setAlarm(left.next)
  }
}

/** Books as the edge sees them: each operation is one RPC to the tenant's object. */
export const durableBooks = (
  namespace: DurableObjectNamespace<TenantBookObject>,
  currency: string,
): TenantBooks => ({
  book: (tenant) =>
    tenantBook(async (name, input) => {
      const object = namespace.get(namespace.idFromName(tenant))
      const answer = (await object.run(tenant, currency, name, input)) as BookAnswer
      if (answer.ok) return answer.value
      throw new GraftError(answer.code, answer.message)
    }),
})

import { GraftError } from '@graft/sdk/format/errors.ts'
import type { Account, Balance, EntryType, LedgerEntry, Nanos } from '@graft/sdk/protocol/ledger.ts'
import { add, assertAmount } from './amounts.ts'
import { answerKeeper } from './answers.ts'
import { entryHash, GENESIS } from './chain.ts'
import type { SyncSql } from './sql.ts'
import type { BookOperations } from './tenant-book.ts'

interface HoldRow {
  hold_id: string
  request_id: string
  amount: number
  state: 'open' | 'settled' | 'released' | 'expired'
}
type EntryRow = Omit<LedgerEntry, 'postings' | 'holdId' | 'requestId'> & {
  postings: string
  hold_id: string | null
  request_id: string | null
}
type Posting = LedgerEntry['postings'][number]

export interface BookOptions {
  sql: SyncSql
  tenant: string
  /** ISO 4217, or whatever the operator sells in. */
  currency: string
  clock: () => Date
}

/** The double-entry rules of one tenant's book over any synchronous SQLite; see BookOperations for what each does. */
export function openBook({ sql, tenant, currency, clock }: BookOptions): BookOperations {
  const amountOf = (account: Account): Nanos =>
    sql.query<{ amount: number }>(
      'SELECT amount FROM accounts WHERE tenant = ? AND account = ?',
      tenant,
      account,
    )[0]?.amount ?? 0

  /** Writes one balanced entry and moves the running totals; only called inside a transaction. */
  function post(
    type: EntryType,
    hold: { hold_id: string; request_id: string } | null,
    postings: Posting[],
    memo: string,
  ): void {
    const moved = postings.filter((posting) => posting.amount !== 0)
    if (moved.reduce((sum, posting) => sum + posting.amount, 0) !== 0)
      throw new GraftError('ERR_INTERNAL', `the postings of a ${type} do not sum to zero`)
    const last = sql.query<{ id: number; hash: string }>(
      'SELECT id, hash FROM entries WHERE tenant = ? ORDER BY id DESC LIMIT 1',
      tenant,
    )[0]
    const entry: Omit<LedgerEntry, 'hash'> = {
      id: (last?.id ?? 0) + 1,
      type,
      at: clock().toISOString(),
      holdId: hold?.hold_id ?? null,
      requestId: hold?.request_id ?? null,
      postings: moved,
      memo,
      previous: last?.hash ?? GENESIS,
    }
    sql.query(
      `INSERT INTO entries (tenant, id, type, at, hold_id, request_id, postings, memo, previous, hash)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      tenant,
      entry.id,
      entry.type,
      entry.at,
      entry.holdId,
      entry.requestId,
      JSON.stringify(entry.postings),
      memo,
      entry.previous,
      entryHash(entry),
    )
    for (const { account, amount } of moved) {
      const total = amountOf(account) + amount
      assertAmount(`the total of account ${account}`, Math.abs(total))
      sql.query(
        `INSERT INTO accounts (tenant, account, amount) VALUES (?, ?, ?)
         ON CONFLICT (tenant, account) DO UPDATE SET amount = excluded.amount`,
        tenant,
        account,
        total,
      )
    }
  }

  function balance(): Balance {
    const totals = sql.query<{ account: string; amount: number }>(
      'SELECT account, amount FROM accounts WHERE tenant = ?',
      tenant,
    )
    const of = (account: string): Nanos =>
      totals.find((row) => row.account === account)?.amount ?? 0
    const [available, held] = [of('available'), of('held')]
    // What left the tenant's two accounts is what authors and the platform got.
    return { tenant, currency, available, held, spent: 0 - of('funding') - available - held }
  }

  function assertAvailable(amount: Nanos, what: string): void {
    const available = amountOf('available')
    if (amount <= available) return
    throw new GraftError(
      'ERR_NO_BALANCE',
      `${what} needs ${amount} nano-${currency}, "${tenant}" has ${available} available; top up, or ask for fewer tokens`,
    )
  }

  function openHold(holdId: string): HoldRow {
    const hold = sql.query<HoldRow>(
      'SELECT hold_id, request_id, amount, state FROM holds WHERE tenant = ? AND hold_id = ?',
      tenant,
      holdId,
    )[0]
    if (!hold) throw new GraftError('ERR_HOLD_UNKNOWN', `"${tenant}" has no hold ${holdId}`)
    if (hold.state === 'open') return hold
    throw new GraftError('ERR_HOLD_RESOLVED', `hold ${holdId} is already ${hold.state}`)
  }

  function resolve(hold: HoldRow, state: HoldRow['state']): void {
    sql.query(
      'UPDATE holds SET state = ? WHERE tenant = ? AND hold_id = ?',
      state,
      tenant,
      hold.hold_id,
    )
  }

  function keepReceipt(requestId: string, receipt: string | null): void {
    if (receipt === null) return
    sql.query(
      `INSERT INTO receipts (tenant, request_id, receipt) VALUES (?, ?, ?)
       ON CONFLICT (tenant, request_id) DO UPDATE SET receipt = excluded.receipt`,
      tenant,
      requestId,
      receipt,
    )
  }

  /** The rest of a hold that is not charged goes back where it came from. */
  const giveBack = (hold: HoldRow, charged: Nanos): Posting[] => [
    { account: 'held', amount: -hold.amount },
    { account: 'available', amount: hold.amount - charged },
  ]

  /** Only called inside a transaction. */
  function expireDue(now: number): number {
    const due = sql.query<HoldRow>(
      `SELECT hold_id, request_id, amount, state FROM holds
       WHERE tenant = ? AND state = 'open' AND expires_at <= ? ORDER BY expires_at, hold_id`,
      tenant,
      now,
    )
    for (const hold of due) {
      resolve(hold, 'expired')
      post('expire', hold, giveBack(hold, 0), 'not resolved in time')
    }
    return due.length
  }

  return {
    topUp: ({ id, amount, memo }) =>
      sql.transaction(() => {
        assertAmount('top-up amount', amount, 1)
        const before = sql.query<{ amount: number }>(
          'SELECT amount FROM top_ups WHERE tenant = ? AND id = ?',
          tenant,
          id,
        )[0]
        if (before?.amount === amount) return balance()
        if (before)
          throw new GraftError(
            'ERR_ALREADY_POSTED',
            `top-up ${id} was posted with ${before.amount} nano-units, not ${amount}; use a new id`,
          )
        sql.query('INSERT INTO top_ups (tenant, id, amount) VALUES (?, ?, ?)', tenant, id, amount)
        const postings: Posting[] = [
          { account: 'funding', amount: -amount },
          { account: 'available', amount },
        ]
        post('top_up', null, postings, memo)
        return balance()
      }),

    hold: ({ holdId, requestId, amount, now, expiresAt }) =>
      sql.transaction(() => {
        assertAmount('hold amount', amount)
        expireDue(now)
        assertAvailable(amount, 'this call')
        const known = sql.query(
          'SELECT 1 FROM holds WHERE tenant = ? AND hold_id = ?',
          tenant,
          holdId,
        )
        if (known.length > 0)
          throw new GraftError('ERR_ALREADY_POSTED', `hold ${holdId} was already taken`)
        sql.query(
          `INSERT INTO holds (tenant, hold_id, request_id, amount, expires_at, state)
           VALUES (?, ?, ?, ?, ?, 'open')`,
          tenant,
          holdId,
          requestId,
          amount,
          expiresAt,
        )
        const postings: Posting[] = [
          { account: 'available', amount: -amount },
          { account: 'held', amount },
        ]
        post('hold', { hold_id: holdId, request_id: requestId }, postings, '')
        return balance()
      }),

    extend: ({ holdId, amount }) =>
      sql.transaction(() => {
        assertAmount('extension amount', amount)
        const hold = openHold(holdId)
        assertAvailable(amount, `extending hold ${holdId}`)
        sql.query(
          'UPDATE holds SET amount = ? WHERE tenant = ? AND hold_id = ?',
          add('hold amount', hold.amount, amount),
          tenant,
          holdId,
        )
        const postings: Posting[] = [
          { account: 'available', amount: -amount },
          { account: 'held', amount },
        ]
        post('extend', hold, postings, '')
        return balance()
      }),

    renew: ({ holdId, expiresAt }) =>
      sql.transaction(() => {
        openHold(holdId)
        sql.query(
          'UPDATE holds SET expires_at = ? WHERE tenant = ? AND hold_id = ?',
          expiresAt,
          tenant,
          holdId,
        )
      }),

    settle: ({ holdId, amount, shares, receipt }) =>
      sql.transaction(() => {
        assertAmount('settled amount', amount)
        for (const share of shares) assertAmount(`share of ${share.account}`, share.amount)
        const hold = openHold(holdId)
        if (amount > hold.amount)
          throw new GraftError(
            'ERR_HOLD_EXCEEDED',
            `hold ${holdId} is ${hold.amount} nano-units, ${amount} were to be settled; extend the hold first`,
          )
        resolve(hold, 'settled')
        post('settle', hold, [...giveBack(hold, amount), ...shares], '')
        keepReceipt(hold.request_id, receipt)
        return balance()
      }),

    release: ({ holdId, memo, receipt }) =>
      sql.transaction(() => {
        const hold = openHold(holdId)
        resolve(hold, 'released')
        post('release', hold, giveBack(hold, 0), memo)
        keepReceipt(hold.request_id, receipt)
        return balance()
      }),

    expireDue: (now) => sql.transaction(() => expireDue(now)),

    balance,

    entries: ({ after, limit }) =>
      sql
        .query<EntryRow>(
          `SELECT id, type, at, hold_id, request_id, postings, memo, previous, hash FROM entries
           WHERE tenant = ? AND id > ? ORDER BY id LIMIT ?`,
          tenant,
          after,
          limit,
        )
        .map(({ hold_id, request_id, postings, ...row }) => ({
          ...row,
          holdId: hold_id,
          requestId: request_id,
          postings: JSON.parse(postings) as Posting[],
        })),

    receipt: (requestId) =>
      sql.query<{ receipt: string }>(
        'SELECT receipt FROM receipts WHERE tenant = ? AND request_id = ?',
        tenant,
        requestId,
      )[0]?.receipt ?? null,

    ...answerKeeper(sql, tenant),
  }
}

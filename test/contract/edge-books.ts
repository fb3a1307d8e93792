import { findBrokenEntry } from '@graft/edge/ledger/chain.ts'
import type { TenantBooks } from '@graft/edge/ledger/tenant-book.ts'
import { isGraftError } from '@graft/sdk/format/errors.ts'
import { MAX_NANOS } from '@graft/sdk/protocol/ledger.ts'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

export interface OpenBooks {
  books: TenantBooks
  /** As after a crash: what was not committed is gone. */
  reopen?: () => Promise<TenantBooks>
  close(): unknown
}

const platform = (amount: number) => [{ account: 'platform' as const, amount }]
const settlement = (holdId: string, amount: number) => ({
  holdId,
  amount,
  shares: platform(amount),
  receipt: `receipt-${holdId}`,
})
const holding = (holdId: string, amount: number, expiresAt = 1_000) => ({
  holdId,
  requestId: `req-${holdId}`,
  amount,
  now: 0,
  expiresAt,
})

/** What every store of tenants' books must do. */
export function booksContract(name: string, open: () => Promise<OpenBooks>): void {
  describe(`books on ${name}`, () => {
    const withBook = async (
      grant: number,
      body: (book: ReturnType<TenantBooks['book']>, opened: OpenBooks) => Promise<void>,
    ) => {
      const opened = await open()
      try {
        const book = opened.books.book('acme')
        if (grant > 0) await book.topUp({ id: 'grant', amount: grant, memo: 'grant' })
        await body(book, opened)
      } finally {
        await opened.close()
      }
    }

    it('grants exactly 6 of 20 parallel holds of 75 on 500', () =>
      withBook(500, async (book) => {
        const holds = Array.from({ length: 20 }, (_, i) => book.hold(holding(`h${i}`, 75)))
        const results = await Promise.allSettled(holds)
        expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(6)
        for (const result of results)
          if (result.status === 'rejected') expect(result.reason.code).toBe('ERR_NO_BALANCE')
        expect(await book.balance()).toMatchObject({ available: 50, held: 450, spent: 0 })
      }))

    it('posts a top-up once per id and refuses the id for another amount', () =>
      withBook(500, async (book) => {
        await book.topUp({ id: 'grant', amount: 500, memo: '' })
        expect(await book.balance()).toMatchObject({ available: 500 })
        await expect(book.topUp({ id: 'grant', amount: 501, memo: '' })).rejects.toMatchObject({
          code: 'ERR_ALREADY_POSTED',
        })
      }))

    it('settles part of a hold to its shares and gives the rest back', () =>
      withBook(500, async (book) => {
        await book.hold(holding('h', 100))
        const shares = [
          { account: 'author:ada' as const, amount: 42 },
          { account: 'platform' as const, amount: 18 },
        ]
        await book.settle({ holdId: 'h', amount: 60, shares, receipt: 'r' })
        expect(await book.balance()).toEqual({
          tenant: 'acme',
          currency: 'USD',
          available: 440,
          held: 0,
          spent: 60,
        })
        const [, , last] = await book.entries({ after: 0, limit: 10 })
        expect(last).toMatchObject({
          type: 'settle',
          holdId: 'h',
          requestId: 'req-h',
          postings: [
            { account: 'held', amount: -100 },
            { account: 'available', amount: 40 },
            ...shares,
          ],
        })
        expect(await book.receipt('req-h')).toBe('r')
      }))

    it('never settles more than it holds, even when the balance would bear it', () =>
      withBook(500, async (book) => {
        await book.hold(holding('h', 100))
        await expect(book.settle(settlement('h', 101))).rejects.toMatchObject({
          code: 'ERR_HOLD_EXCEEDED',
        })
        await book.extend({ holdId: 'h', amount: 1 })
        await book.settle(settlement('h', 101))
        expect(await book.balance()).toMatchObject({ available: 399, spent: 101 })
      }))

    it('refuses shares that do not sum to the amount, and changes nothing', () =>
      withBook(500, async (book) => {
        await book.hold(holding('h', 100))
        const wrong = { ...settlement('h', 50), shares: platform(49) }
        await expect(book.settle(wrong)).rejects.toThrow(/sum to zero/)
        expect(await book.balance()).toMatchObject({ available: 400, held: 100, spent: 0 })
        expect(await book.receipt('req-h')).toBeNull()
      }))

    it('resolves a hold once: a second settle, a release or an extension is refused', () =>
      withBook(500, async (book) => {
        await book.hold(holding('h', 100))
        await book.settle(settlement('h', 100))
        const late = [
          () => book.settle(settlement('h', 1)),
          () => book.release({ holdId: 'h', memo: '', receipt: null }),
          () => book.extend({ holdId: 'h', amount: 1 }),
          () => book.renew({ holdId: 'h', expiresAt: 9 }),
        ]
        for (const attempt of late)
          await expect(attempt()).rejects.toMatchObject({ code: 'ERR_HOLD_RESOLVED' })
        expect(await book.balance()).toMatchObject({ available: 400, spent: 100 })
      }))

    it('lets expiry and settle race to one outcome', () =>
      withBook(500, async (book) => {
        await book.hold(holding('h', 100, 1_000))
        expect(await book.expireDue(999)).toBe(0)
        const [expiry, settle] = await Promise.allSettled([
          book.expireDue(1_000),
          book.settle(settlement('h', 70)),
        ])
        const settled = settle.status === 'fulfilled'
        expect(expiry).toMatchObject({ value: settled ? 0 : 1 })
        expect(await book.balance()).toMatchObject({ held: 0, spent: settled ? 70 : 0 })
      }))

    it('keeps a renewed hold and expires one that was not', () =>
      withBook(500, async (book) => {
        await book.hold(holding('live', 100, 1_000))
        await book.hold(holding('dead', 100, 1_000))
        await book.renew({ holdId: 'live', expiresAt: 2_000 })
        expect(await book.expireDue(1_500)).toBe(1)
        await expect(book.settle(settlement('dead', 1))).rejects.toMatchObject({
          code: 'ERR_HOLD_RESOLVED',
        })
        await book.settle(settlement('live', 1))
      }))

    it('refuses amounts that are no whole nano-units or lie above 2^53', () =>
      withBook(500, async (book) => {
        for (const amount of [-1, 0.5, Number.NaN, MAX_NANOS + 1])
          await expect(book.hold(holding('h', amount))).rejects.toMatchObject({
            code: 'ERR_LEDGER_RANGE',
          })
        await expect(book.topUp({ id: 'x', amount: MAX_NANOS, memo: '' })).rejects.toMatchObject({
          code: 'ERR_LEDGER_RANGE',
        })
        expect(await book.balance()).toMatchObject({ available: 500 })
      }))

    it('takes a hold with what an expired one held', () =>
      withBook(500, async (book) => {
        await book.hold(holding('dead', 500, 1_000))
        await expect(book.hold({ ...holding('h', 1, 3_000), now: 999 })).rejects.toMatchObject({
          code: 'ERR_NO_BALANCE',
        })
        await book.hold({ ...holding('h', 500, 3_000), now: 1_000 })
        const types = (await book.entries({ after: 1, limit: 9 })).map(({ type }) => type)
        expect(types).toEqual(['hold', 'expire', 'hold'])
      }))

    it('keeps tenants apart', () =>
      withBook(500, async (_, { books }) => {
        const other = books.book('globex')
        expect(await other.balance()).toMatchObject({ available: 0, spent: 0 })
        await expect(other.hold(holding('h', 1))).rejects.toMatchObject({ code: 'ERR_NO_BALANCE' })
        await expect(other.release({ holdId: 'h', memo: '', receipt: null })).rejects.toMatchObject(
          { code: 'ERR_HOLD_UNKNOWN' },
        )
      }))

    it('keeps one answer per idempotency key', () =>
      withBook(0, async (book) => {
        const claim = { key: 'k', fingerprint: 'f', now: 0, expiresAt: 100 }
        expect(await book.claimKey(claim)).toEqual({ state: 'new' })
        expect(await book.claimKey(claim)).toEqual({ state: 'in_flight' })
        expect(await book.claimKey({ ...claim, fingerprint: 'g' })).toEqual({ state: 'mismatch' })
        const answer = { status: 200, headers: { a: 'b' }, body: 'text' }
        await book.keepAnswer({ key: 'k', expiresAt: 1_000, answer })
        expect(await book.claimKey({ ...claim, now: 500 })).toEqual({ state: 'kept', ...answer })
        expect(await book.claimKey({ ...claim, now: 1_000, expiresAt: 2_000 })).toEqual({
          state: 'new',
        })
      }))

    it('returns what a crash left held, once its time is up', async () => {
      const opened = await open()
      try {
        if (!opened.reopen) return
        await opened.books.book('acme').topUp({ id: 'grant', amount: 500, memo: '' })
        await opened.books.book('acme').hold(holding('h', 100, 1_000))
        const book = (await opened.reopen()).book('acme')
        expect(await book.balance()).toMatchObject({ available: 400, held: 100 })
        expect(await book.expireDue(1_000)).toBe(1)
        expect(await book.balance()).toMatchObject({ available: 500, held: 0, spent: 0 })
        expect(findBrokenEntry(await book.entries({ after: 0, limit: 100 }))).toBeNull()
      } finally {
        await opened.close()
      }
    })

    it('agrees with a plain model under random operations', () =>
      fc.assert(
        fc.asyncProperty(fc.array(operation, { maxLength: 40 }), async (operations) => {
          const opened = await open()
          try {
            await agree(opened.books.book('acme'), operations)
          } finally {
            await opened.close()
          }
        }),
        { numRuns: 60 },
      ))
  })
}

type Operation = {
  kind: 'topUp' | 'hold' | 'extend' | 'settle' | 'release' | 'expire' | 'renew'
  hold: number
  amount: number
}
const operation: fc.Arbitrary<Operation> = fc.record({
  kind: fc.constantFrom(
    'topUp' as const,
    'hold' as const,
    'hold' as const,
    'extend' as const,
    'settle' as const,
    'settle' as const,
    'release' as const,
    'expire' as const,
    'renew' as const,
  ),
  hold: fc.integer({ min: 0, max: 5 }),
  amount: fc.integer({ min: 0, max: 120 }),
})

/** The model: numbers in variables, no entries, no SQL. */
async function agree(book: ReturnType<TenantBooks['book']>, operations: Operation[]) {
  let [available, spent, now, topUps] = [0, 0, 0, 0]
  const open = new Map<string, { amount: number; expiresAt: number }>()
  const resolved = new Set<string>()
  const held = () => [...open.values()].reduce((sum, hold) => sum + hold.amount, 0)
  for (const { kind, hold: n, amount } of operations) {
    const id = `h${n}`
    const known = open.get(id)
    const share = Math.floor(amount / 3)
    const shares = [
      { account: 'author:ada' as const, amount: share },
      { account: 'platform' as const, amount: amount - share },
    ]
    const attempt = {
      topUp: () => book.topUp({ id: `t${topUps++}`, amount: amount + 1, memo: '' }),
      hold: () => book.hold(holding(id, amount, now + 50)),
      extend: () => book.extend({ holdId: id, amount }),
      settle: () => book.settle({ holdId: id, amount, shares, receipt: 'r' }),
      release: () => book.release({ holdId: id, memo: '', receipt: null }),
      expire: () => book.expireDue((now += amount)),
      renew: () => book.renew({ holdId: id, expiresAt: now + amount }),
    }[kind]
    const done = await attempt().then(
      () => true,
      (error: unknown) => {
        if (!isGraftError(error)) throw error
        return false
      },
    )
    const should = {
      topUp: true,
      hold: amount <= available && !known && !resolved.has(id),
      extend: known !== undefined && amount <= available,
      settle: known !== undefined && amount <= known.amount,
      release: known !== undefined,
      expire: true,
      renew: known !== undefined,
    }[kind]
    expect(done, `${kind} ${id} ${amount}`).toBe(should)
    if (!done) continue
    if (kind === 'topUp') available += amount + 1
    if (kind === 'hold') open.set(id, { amount, expiresAt: now + 50 })
    if (kind === 'hold' || kind === 'extend') available -= amount
    if (kind === 'extend') known!.amount += amount
    if (kind === 'renew') known!.expiresAt = now + amount
    if (kind === 'settle') spent += amount
    const over =
      kind === 'expire'
        ? [...open].filter(([, hold]) => hold.expiresAt <= now)
        : kind === 'settle' || kind === 'release'
          ? [[id, known!] as const]
          : []
    for (const [overId, hold] of over) {
      open.delete(overId)
      resolved.add(overId)
      available += hold.amount - (kind === 'settle' ? amount : 0)
    }
    expect(await book.balance()).toMatchObject({ available, held: held(), spent })
    expect(available).toBeGreaterThanOrEqual(0)
  }
  const entries = await book.entries({ after: 0, limit: 1_000 })
  expect(findBrokenEntry(entries)).toBeNull()
  const derived = new Map<string, number>()
  for (const { postings } of entries)
    for (const { account, amount } of postings)
      derived.set(account, (derived.get(account) ?? 0) + amount)
  expect(derived.get('available') ?? 0).toBe(available)
  expect(derived.get('held') ?? 0).toBe(held())
  expect((derived.get('author:ada') ?? 0) + (derived.get('platform') ?? 0)).toBe(spent)
  const outcomes = entries.filter(({ type }) => ['settle', 'release', 'expire'].includes(type))
  expect(new Set(outcomes.map(({ holdId }) => holdId)).size).toBe(outcomes.length)
}

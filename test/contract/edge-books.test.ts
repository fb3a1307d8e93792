import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { entryHash, findBrokenEntry } from '@graft/edge/ledger/chain.ts'
import { openSqliteBooks } from '@graft/edge/node/sqlite-books.ts'
import { canonicalJson } from '@graft/sdk/format/canonical-json.ts'
import { sha256 } from '@graft/sdk/format/digest.ts'
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { booksContract } from './edge-books.ts'

const options = { currency: 'USD', clock: () => new Date() }

booksContract('node:sqlite in memory', async () => {
  const books = openSqliteBooks({ ...options, path: ':memory:' })
  return { books, close: () => books.close() }
})

booksContract('node:sqlite in a file', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'graft-books-'))
  const path = join(folder, 'ledger.sqlite')
  let books = openSqliteBooks({ ...options, path })
  return {
    books,
    async reopen() {
      // The first handle is left as a crash leaves it: open, with its last commit in the write-ahead log.
      books = openSqliteBooks({ ...options, path })
      return books
    },
    close() {
      books.close()
      rmSync(folder, { recursive: true, force: true })
    },
  }
})

it('finds a changed amount, a missing entry and a swapped order in a chain', async () => {
  const books = openSqliteBooks({ ...options, path: ':memory:' })
  const book = books.book('acme')
  for (const id of ['a', 'b', 'c']) await book.topUp({ id, amount: 10, memo: '' })
  const [a, b, c] = await book.entries({ after: 0, limit: 10 })
  expect(findBrokenEntry([a!, b!, c!])).toBeNull()
  expect(findBrokenEntry([a!, c!])).toMatch(/entry 3 follows/)
  const postings = [
    { account: 'funding' as const, amount: -99 },
    { account: 'available' as const, amount: 99 },
  ]
  expect(findBrokenEntry([a!, { ...b!, postings }, c!])).toMatch(/entry 2 does not have the hash/)
  books.close()
})

const UNHASHED = {
  id: 1,
  type: 'top_up' as const,
  at: '2026-01-01T00:00:00.000Z',
  holdId: null,
  requestId: null,
  postings: [],
  previous: '',
}

it('hashes an entry like WebCrypto does', () =>
  fc.assert(
    fc.asyncProperty(fc.string({ unit: 'binary', maxLength: 300 }), async (text) => {
      const entry = { ...UNHASHED, memo: text }
      expect(entryHash(entry)).toBe(await sha256(canonicalJson(entry)))
    }),
    { numRuns: 300 },
  ))

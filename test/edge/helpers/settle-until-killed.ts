/** Run as a process of its own: holds and settles in one book, says each settle when it is done, until killed. */
import { openSqliteBooks } from '@graft/edge/node/sqlite-books.ts'

const path = process.argv[2]!
const run = process.argv[3]!
const book = openSqliteBooks({ path, currency: 'USD', clock: () => new Date() }).book('acme')
await book.topUp({ id: run, amount: 1_000_000, memo: '' })
for (let i = 0; ; i++) {
  const holdId = `${run}-${i}`
  const expiresAt = Date.now() + 60_000
  await book.hold({ holdId, requestId: holdId, amount: 7, now: 0, expiresAt })
  const shares = [
    { account: 'author:ada' as const, amount: 3 },
    { account: 'platform' as const, amount: 2 },
  ]
  await book.settle({ holdId, amount: 5, shares, receipt: holdId })
  process.stdout.write(`${holdId}\n`)
}

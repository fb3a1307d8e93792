import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { findBrokenEntry } from '@graft/edge/ledger/chain.ts'
import { openSqliteBooks } from '@graft/edge/node/sqlite-books.ts'
import type { LedgerEntry } from '@graft/sdk/protocol/ledger.ts'
import { expect, it } from 'vitest'

const script = join(import.meta.dirname, 'helpers/settle-until-killed.ts')

/** Kills the process, as a power cut would, once it has said this many settles. @returns what it said */
async function runAndKill(path: string, run: string, settles: number): Promise<string[]> {
  const child = spawn(process.execPath, [script, path, run], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let text = ''
  for await (const chunk of child.stdout) {
    text += String(chunk)
    if (text.split('\n').length > settles) child.kill('SIGKILL')
  }
  return text.split('\n').slice(0, -1)
}

it('loses no settle it has confirmed and keeps every book balanced when it is killed', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'graft-crash-'))
  const path = join(folder, 'ledger.sqlite')
  const confirmed: string[] = []
  for (const settles of [1, 20, 60])
    confirmed.push(...(await runAndKill(path, `run${settles}`, settles)))
  const books = openSqliteBooks({ path, currency: 'USD', clock: () => new Date() })
  const book = books.book('acme')
  expect(confirmed.length).toBeGreaterThanOrEqual(81)
  for (const holdId of confirmed) expect(await book.receipt(holdId)).toBe(holdId)
  // What was between hold and settle comes back, once.
  expect(books.expireDue(Date.now() + 120_000)).toBeLessThanOrEqual(3)
  const entries: LedgerEntry[] = []
  for (;;) {
    const page = await book.entries({ after: entries.at(-1)?.id ?? 0, limit: 100 })
    if (page.length === 0) break
    entries.push(...page)
  }
  expect(findBrokenEntry(entries)).toBeNull()
  const settled = entries.filter(({ type }) => type === 'settle').length
  expect(settled).toBeGreaterThanOrEqual(confirmed.length)
  expect(await book.balance()).toMatchObject({
    available: 3_000_000 - 5 * settled,
    held: 0,
    spent: 5 * settled,
  })
  books.close()
  rmSync(folder, { recursive: true, force: true })
})

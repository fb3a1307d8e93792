import { canonicalJson } from '@graft/sdk/format/canonical-json.ts'
import { sha256 } from '@graft/sdk/format/digest.ts'
import type { Balance, LedgerEntry } from '@graft/sdk/protocol/ledger.ts'

export interface BookCheck {
  tenant: string
  entries: number
  problems: string[]
}

/**
 * Re-derives a tenant's balance from its entries alone: every entry sums to zero, follows the one before it by hash,
 * and the accounts add up to what the edge says.
 */
export async function checkBook(balance: Balance, entries: LedgerEntry[]): Promise<BookCheck> {
  const problems: string[] = []
  const accounts = new Map<string, number>()
  let previous = ''
  for (const { hash, ...entry } of entries) {
    if (entry.previous !== previous)
      problems.push(`entry ${entry.id} does not follow the one before it`)
    if ((await sha256(canonicalJson(entry))) !== hash)
      problems.push(`entry ${entry.id} does not have its hash`)
    const sum = entry.postings.reduce((total, posting) => total + posting.amount, 0)
    if (sum !== 0) problems.push(`entry ${entry.id} sums to ${sum}, not to zero`)
    for (const { account, amount } of entry.postings)
      accounts.set(account, (accounts.get(account) ?? 0) + amount)
    previous = hash
  }
  const of = (account: string) => accounts.get(account) ?? 0
  const spent = [...accounts]
    .filter(([account]) => account === 'platform' || account.startsWith('author:'))
    .reduce((total, [, amount]) => total + amount, 0)
  const compare = (what: string, derived: number, stated: number) => {
    if (derived !== stated)
      problems.push(`${what} is ${derived} by the entries, ${stated} by the edge`)
  }
  compare('available', of('available'), balance.available)
  compare('held', of('held'), balance.held)
  compare('spent', spent, balance.spent)
  return { tenant: balance.tenant, entries: entries.length, problems }
}

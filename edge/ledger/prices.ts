import type { Digest } from '@graft/sdk/format/digest.ts'
import type { Account, Nanos, Price } from '@graft/sdk/protocol/ledger.ts'
import { add, multiply } from './amounts.ts'

export interface PriceList {
  /** Names the list on receipts; a changed price needs a new version. */
  version: string
  /** For a base or an adapter that has no row of its own. */
  standard: Omit<Price, 'version'>
  /** By base name. */
  bases?: Record<string, Omit<Price, 'version'>>
  /** By package name, `@acme/sql`. */
  adapters?: Record<string, Omit<Price, 'version'>>
}

/** A small price that makes every account move; an operator brings their own list. */
export const DEFAULT_PRICES: PriceList = {
  version: 'default-1',
  standard: { input: 100, output: 400, cached: 25, authorShare: 700_000 },
}

/** An adapter of a call as prices see it: `@acme/sql` and a decimal string. */
export interface PricedAdapter {
  package: string
  weight: string
  digest: Digest
}

export interface CallPrice extends Price {
  /** Parts per million that each author gets, by organisation. */
  authors: { org: string; partsPerMillion: number }[]
}

/**
 * The price of a call: its base's row, or for each field the highest of its adapters' rows, so that no rounding enters
 * a price. Each author's part is their adapter's share, by |weight| among the call's adapters.
 */
export function priceOf(list: PriceList, base: string, adapters: PricedAdapter[]): CallPrice {
  const rows = adapters.map((adapter) => list.adapters?.[adapter.package] ?? list.standard)
  const own = list.bases?.[base] ?? list.standard
  const priced = rows.length > 0 ? rows : [own]
  const highest = (field: 'input' | 'output' | 'cached') =>
    Math.max(...priced.map((row) => row[field]))
  const weights = adapters.map(({ weight }) => billionths(weight))
  const total = weights.reduce((sum, weight) => sum + weight, 0n)
  const authors = adapters.map((adapter, i) => ({
    org: adapter.package.slice(1).split('/')[0]!,
    partsPerMillion: total > 0n ? Number((BigInt(rows[i]!.authorShare) * weights[i]!) / total) : 0,
  }))
  return {
    version: list.version,
    input: highest('input'),
    output: highest('output'),
    cached: highest('cached'),
    authorShare: authors.reduce((sum, author) => sum + author.partsPerMillion, 0),
    authors,
  }
}

/** |weight| exactly: a weight has at most nine decimals. */
const billionths = (weight: string): bigint => {
  const [whole = '0', fraction = ''] = weight.replace('-', '').split('.')
  return BigInt(whole + fraction.padEnd(9, '0').slice(0, 9))
}

export interface TokenCounts {
  prompt: number
  /** Of the prompt, those read from a prefix cache. */
  cached: number
  completion: number
}

/** Exact: whole tokens times whole nano-units. @throws ERR_LEDGER_RANGE */
export function charge(price: Price, tokens: TokenCounts): Nanos {
  return add(
    'charge',
    multiply('prompt charge', tokens.prompt - tokens.cached, price.input),
    multiply('cached charge', tokens.cached, price.cached),
    multiply('completion charge', tokens.completion, price.output),
  )
}

/**
 * The one rounding rule of a call: each author's share is rounded down to a nano-unit, and the platform gets the rest,
 * so shares always sum to the charge.
 */
export function sharesOf(price: CallPrice, charged: Nanos): { account: Account; amount: Nanos }[] {
  const byAuthor = new Map<string, number>()
  for (const { org, partsPerMillion } of price.authors) {
    const share = Number((BigInt(charged) * BigInt(partsPerMillion)) / 1_000_000n)
    byAuthor.set(org, (byAuthor.get(org) ?? 0) + share)
  }
  const shares = [...byAuthor].map(([org, amount]) => ({
    account: `author:${org}` as Account,
    amount,
  }))
  const rest = charged - shares.reduce((sum, share) => sum + share.amount, 0)
  return [...shares, { account: 'platform', amount: rest }]
}

import { canonicalJson } from '@graft/sdk/format/canonical-json.ts'
import type { LedgerEntry } from '@graft/sdk/protocol/ledger.ts'
import { sha256 } from '@noble/hashes/sha2.js'
import { bytesToHex, utf8ToBytes } from '@noble/hashes/utils.js'

/** What the first entry of a book names as its predecessor. */
export const GENESIS = ''

/**
 * sha256 of the canonical JSON of the entry without its hash. Without a wait, which WebCrypto does not offer: a book's
 * transaction must not be left between reading the last hash and writing the next.
 */
export const entryHash = (entry: Omit<LedgerEntry, 'hash'>): string =>
  `sha256:${bytesToHex(sha256(utf8ToBytes(canonicalJson(entry))))}`

/**
 * Walks entries in order from `previous`.
 * @returns null when every entry follows the one before it, is intact and balances; else what is wrong, by entry.
 */
export function findBrokenEntry(entries: LedgerEntry[], previous = GENESIS): string | null {
  let last = previous
  for (const { hash, ...entry } of entries) {
    if (entry.previous !== last) return `entry ${entry.id} follows ${entry.previous}, not ${last}`
    if (entryHash(entry) !== hash) return `entry ${entry.id} does not have the hash it states`
    if (entry.postings.reduce((sum, posting) => sum + posting.amount, 0) !== 0)
      return `the postings of entry ${entry.id} do not sum to zero`
    last = hash
  }
  return null
}

import { type AdapterBank, ownerOf } from '../bank/adapter-bank.ts'
import type { Wanted } from './row-results.ts'
import type { Sequence } from './sequence.ts'

/**
 * Puts the logits of replaced rows of the head into their places.
 * @param logits [P, vocab]
 * @param rows [P, K] logits of all such rows of the bank
 */
export function putHeadRows(
  bank: AdapterBank,
  sequences: (Sequence | null)[],
  { takeRows }: Wanted,
  logits: Float32Array,
  rows: Float32Array,
): void {
  const region = bank.own.headRows
  const { vocab } = bank.config
  const width = rows.length / Math.max(1, takeRows.length)
  for (const [p, b] of takeRows.entries()) {
    const term = sequences[b]?.binding.terms[0]
    if (!term?.adapter.own.headRows) continue
    const first = region.offset(ownerOf(term))
    for (const [i, id] of term.adapter.own.headRows.ids.entries())
      logits[p * vocab + id] = rows[p * width + first + i]!
  }
}

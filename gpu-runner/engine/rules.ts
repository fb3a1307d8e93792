import { isDelta } from '@graft/sdk/format/dense/as-low-rank.ts'
import type { Digest } from '@graft/sdk/format/digest.ts'
import { type ErrorCode, expected, GraftError, isGraftError } from '@graft/sdk/format/errors.ts'
import type { Dense, Operation } from '@graft/sdk/format/operations.ts'
import type { EngineInfo, StepRow } from './engine.ts'

/** What every engine refuses, in the same words, whatever computes the rest. */

/** What Engine.step refuses for one row's sake, before it computes any: without that row the others may be stepped again. */
export const isRowRefusal = (e: unknown): e is GraftError =>
  isGraftError(e) && ROW_REFUSALS.includes(e.code)
const ROW_REFUSALS: readonly ErrorCode[] = [
  'ERR_PROMPT_TOO_LONG',
  'ERR_REQUEST_INVALID',
  'ERR_OVERLOADED',
]

/** As the operations are run: a dense one with small exact factors is a delta like any low rank update. */
export const isComposable = (operations: Operation[]): boolean => operations.every(isDelta)

/** How adapters are served that only run merged. */
export const MERGE_HINT =
  'it changes whole weights, so it cannot stand in a batch, only be merged; start the runner with --merge request, auto or a number of MiB'

/** Why no batch takes an operation, and what does. */
export const mergedOnly = (operation: Dense): string =>
  `dense (${operation.form}) at ${operation.site}: ${MERGE_HINT}`

/**
 * A gate averages over the tokens of one call, so a prompt must be computed at once, as the tool that trained it does:
 * an engine holds a prompt's chunks back until the row that wants logits. A row that wants all logits is a call of its own.
 */
export const needsWholePrompt = (operations: Operation[]): boolean =>
  operations.some((operation) => operation.op === 'bottleneck' && operation.slots.gateW)

/** @throws ERR_NOT_COMPOSABLE when an adapter that is no sum of deltas stands in a sum or has a weight */
export function assertSum(
  terms: { adapter: { digest: Digest; composable: boolean }; weight: number }[],
): void {
  if (terms.length <= 1 && terms.every(({ weight }) => weight === 1)) return
  const alone = terms.find(({ adapter }) => !adapter.composable)
  if (alone)
    throw new GraftError(
      'ERR_NOT_COMPOSABLE',
      `${alone.adapter.digest} has operations that are no sum of deltas: call it alone with weight 1`,
    )
}

/**
 * @param filled positions that stand before the row, virtual ones included
 * @returns positions filled after it
 * @throws ERR_PROMPT_TOO_LONG, ERR_REQUEST_INVALID
 */
export function assertRow(
  { maxPositions, vocab }: Pick<EngineInfo, 'maxPositions' | 'vocab'>,
  row: StepRow,
  filled: number,
): number {
  if (row.tokenIds.length === 0)
    throw new GraftError('ERR_INTERNAL', `row ${row.sequence} has no token`)
  const total = filled + row.tokenIds.length
  if (total > maxPositions)
    throw new GraftError(
      'ERR_PROMPT_TOO_LONG',
      expected('prompt and answer', `at most ${maxPositions} tokens`, total),
    )
  for (const id of row.tokenIds)
    if (!(id >= 0 && id < vocab))
      throw new GraftError('ERR_REQUEST_INVALID', expected('token id', `below ${vocab}`, id))
  return total
}

import { expected, GraftError } from '../format/errors.ts'
import { verifyCompact } from '../format/jws.ts'
import { JWS_TYPES } from '../format/manifest.ts'
import type { Receipt, ReceiptKeys, RunnerReceipt } from '../protocol/receipts.ts'
import { isRecord } from './server-error.ts'

export interface VerifiedReceipt {
  receipt: Receipt
  runner: RunnerReceipt
}

const COUNTS = ['prompt', 'cached', 'completion'] as const

const invalid = (where: string, want: string, got: unknown): GraftError =>
  new GraftError('ERR_RECEIPT_INVALID', `receipt: ${expected(where, want, got)}`)

/**
 * Proves a receipt offline: the edge signed it, a runner signed what ran, the two speak of the same call, no more was
 * billed than ran, and the charge is the stated prices times the billed tokens, exactly.
 * @throws ERR_RECEIPT_INVALID, ERR_SIGNATURE_INVALID, ERR_KEY_UNKNOWN
 */
export async function verifyReceipt(compact: string, keys: ReceiptKeys): Promise<VerifiedReceipt> {
  const { receipt, runner } = await verifyCharge(compact, keys)
  if (runner === null) throw invalid('runner', "a runner's signed statement", null)
  return { receipt, runner }
}

/**
 * Like verifyReceipt, but accepts that no runner signed where none can have: a call that failed, was aborted or ran out
 * of money ends before its runner's statement.
 */
export async function verifyCharge(
  compact: string,
  keys: ReceiptKeys,
): Promise<{ receipt: Receipt; runner: RunnerReceipt | null }> {
  const { payload: receipt } = await verifyCompact<Receipt>(compact, JWS_TYPES.receipt, keys.edge)
  assertReceipt(receipt)
  if (receipt.runner === null) {
    if (receipt.outcome === 'complete') throw invalid('runner of a complete call', 'signed', null)
    return { receipt, runner: null }
  }
  const { payload: runner } = await verifyCompact<RunnerReceipt>(
    receipt.runner,
    JWS_TYPES.runnerReceipt,
    keys.runners,
  )
  assertAgree(receipt, runner)
  return { receipt, runner }
}

const isCount = (value: unknown): value is number =>
  Number.isSafeInteger(value) && Number(value) >= 0

function assertReceipt(receipt: Receipt): void {
  if (receipt.v !== 1) throw invalid('v', '1', receipt.v)
  const { billed, price, charged } = receipt
  for (const kind of COUNTS)
    if (!isRecord(billed) || !isCount(billed[kind]))
      throw invalid(`billed.${kind}`, 'a count of tokens', billed)
  for (const kind of ['input', 'output', 'cached'] as const)
    if (!isRecord(price) || !isCount(price[kind]))
      throw invalid(`price.${kind}`, 'nano-units per token', price)
  if (billed.cached > billed.prompt)
    throw invalid('billed.cached', `at most the ${billed.prompt} prompt tokens`, billed.cached)
  // BigInt, so that no product is rounded before it is compared.
  const due =
    BigInt(billed.prompt - billed.cached) * BigInt(price.input) +
    BigInt(billed.cached) * BigInt(price.cached) +
    BigInt(billed.completion) * BigInt(price.output)
  if (!isCount(charged) || BigInt(charged) !== due)
    throw invalid('charged', `${due} nano-units (tokens times prices)`, charged)
  if (receipt.outcome === 'failed' && charged !== 0)
    throw invalid('charged for a failed call', '0', charged)
}

function assertAgree(receipt: Receipt, runner: RunnerReceipt): void {
  if (runner.v !== 1) throw invalid('runner: v', '1', runner.v)
  for (const field of ['requestId', 'tenant'] as const)
    if (runner[field] !== receipt[field])
      throw invalid(`runner: ${field}`, String(receipt[field]), runner[field])
  for (const kind of COUNTS)
    if (!isRecord(runner.tokens) || !isCount(runner.tokens[kind]))
      throw invalid(`runner: tokens.${kind}`, 'a count of tokens', runner.tokens)
  const { resumed = 0 } = receipt
  if (!isCount(resumed)) throw invalid('resumed', 'a count of tokens', resumed)
  const { prompt, completion } = receipt.billed
  if (prompt > runner.tokens.prompt)
    throw invalid('billed.prompt', `at most the ${runner.tokens.prompt} that ran`, prompt)
  if (completion > runner.tokens.completion + resumed)
    throw invalid(
      'billed.completion',
      `at most the ${runner.tokens.completion + resumed} that ran`,
      completion,
    )
}

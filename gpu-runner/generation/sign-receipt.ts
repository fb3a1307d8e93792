import type { Digest } from '@graft/sdk/format/digest.ts'
import { type SigningKey, signCompact } from '@graft/sdk/format/jws.ts'
import type { FinishReason, RunnerReceipt } from '@graft/sdk/protocol/receipts.ts'
import type { GenerateRequest } from '@graft/sdk/protocol/runner-api.ts'

export interface ReceiptFacts {
  request: GenerateRequest
  /** As recomputed here from the request. */
  requestHash: Digest
  tokens: RunnerReceipt['tokens']
  reasons: (FinishReason | null)[]
  /** By choice that ran: the adapter's weights were part of the base that ran it. */
  merged: boolean[]
}

/** One reason for the whole answer: the one that cut most. */
function overall(reasons: (FinishReason | null)[]): FinishReason {
  if (reasons.some((reason) => reason === null)) return 'error'
  return reasons.includes('length') ? 'length' : (reasons[0] ?? 'stop')
}

/** 'merged' only when every choice ran so: a form may come or go between two of them. */
function mergeState({ request, merged }: ReceiptFacts): RunnerReceipt['mergeState'] {
  if (request.adapters.length === 0) return 'none'
  return merged.length > 0 && merged.every(Boolean) ? 'merged' : 'banked'
}

/** What ran, signed by the runner that ran it: the adapters are those pinned in its bank all the while. */
export function signReceipt(
  facts: ReceiptFacts,
  runner: { id: string; build: string; base: Digest; key: SigningKey; clock: () => Date },
): Promise<string> {
  const { request, requestHash, tokens, reasons } = facts
  const receipt: RunnerReceipt = {
    v: 1,
    requestId: request.requestId,
    requestHash,
    tenant: request.tenant,
    base: runner.base,
    adapters: request.adapters.map(({ digest, weight }) => ({ digest, weight })),
    mergeState: mergeState(facts),
    tokens,
    finish: overall(reasons),
    runner: { id: runner.id, build: runner.build },
    issuedAt: runner.clock().toISOString(),
  }
  return signCompact(receipt, 'graft-runner-receipt+jws', runner.key)
}

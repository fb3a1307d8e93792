import { expected, GraftError } from '../format/errors.ts'
import type { Balance, LedgerEntry, TopUpRequest } from '../protocol/ledger.ts'
import type { ReceiptKeys } from '../protocol/receipts.ts'
import { type ClientOptions, createHttp } from './http.ts'
import { path, query } from './path.ts'
import { createReceiptVerifier } from './receipt-keys.ts'
import { verifyCharge } from './verify-receipt.ts'

export type LedgerClient = ReturnType<typeof createLedgerClient>

/** A tenant's book at the edge: balance, entries, top-ups and receipts. Amounts are integer nano-units. */
export function createLedgerClient(options: ClientOptions & { keys?: ReceiptKeys }) {
  const http = createHttp(options, 'edge URL')
  const verified = createReceiptVerifier(http, options.keys)
  return {
    url: http.url,
    balance: () => http.json<Balance>({ method: 'GET', path: '/v1/balance', what: 'balance' }),
    /** Entries after the one with id `after`, oldest first, a page at a time; the last page is empty. */
    entries: ({ after }: { after?: number } = {}) =>
      http.json<{ entries: LedgerEntry[] }>({
        method: 'GET',
        path: `/v1/ledger/entries${query({ after: after?.toString() })}`,
        what: 'ledger entries',
      }),
    /** For admin tokens of the operator's organisation. A repeat with the same id changes nothing. */
    topUp: (request: TopUpRequest) =>
      http.json<Balance>({
        method: 'POST',
        path: '/v1/ledger/top-ups',
        json: request,
        idempotent: true,
        what: `top-up of ${request.tenant}`,
      }),
    /** The receipt of a finished call, verified; `runner` is null when the call ended before its runner signed. */
    async receipt(requestId: string) {
      const { receipt: compact } = await http.json<{ receipt: string }>({
        method: 'GET',
        path: path`/v1/receipts/${requestId}`,
        what: `receipt of ${requestId}`,
      })
      const proof = await verified(compact, verifyCharge)
      if (proof.receipt.requestId === requestId) return { compact, ...proof }
      throw new GraftError(
        'ERR_RECEIPT_INVALID',
        expected('receipt: requestId', requestId, proof.receipt.requestId),
      )
    },
  }
}

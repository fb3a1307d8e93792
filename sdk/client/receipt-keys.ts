import { isGraftError } from '../format/errors.ts'
import type { ReceiptKeys } from '../protocol/receipts.ts'
import type { Http } from './http.ts'

/** Verifies with the edge's published keys. A runner may have joined since they were read, so they are read once more. */
export function createReceiptVerifier(http: Http, pinned?: ReceiptKeys) {
  let known: Promise<ReceiptKeys> | undefined
  const read = (): Promise<ReceiptKeys> =>
    http.json<ReceiptKeys>({
      method: 'GET',
      path: '/.well-known/graft-keys.json',
      what: 'receipt keys',
    })
  const current = (): Promise<ReceiptKeys> => {
    known ??= read().catch((e: unknown) => {
      known = undefined
      throw e
    })
    return known
  }
  return async <T>(
    compact: string,
    verify: (compact: string, keys: ReceiptKeys) => Promise<T>,
  ): Promise<T> => {
    if (pinned) return verify(compact, pinned)
    try {
      return await verify(compact, await current())
    } catch (e) {
      if (!isGraftError(e) || e.code !== 'ERR_KEY_UNKNOWN') throw e
      known = undefined
      return verify(compact, await current())
    }
  }
}

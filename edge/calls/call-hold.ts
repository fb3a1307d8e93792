import { GraftError, isGraftError } from '@graft/sdk/format/errors.ts'
import type { Nanos } from '@graft/sdk/protocol/ledger.ts'
import type { Settlement, TenantBook } from '../ledger/tenant-book.ts'

/** Milliseconds from its last renewal after which a hold returns by itself: what a crash of the edge costs a tenant. */
export const HOLD_MS = 120_000
const RENEW_EVERY_MS = 30_000
const SETTLE_ATTEMPTS = 3

/** Money refusals pass as they are; anything else means that the ledger cannot be trusted now, so nothing is served. */
export async function failClosed<T>(doing: string, work: Promise<T>): Promise<T> {
  try {
    return await work
  } catch (cause) {
    if (isGraftError(cause) && cause.code !== 'ERR_INTERNAL') throw cause
    throw new GraftError('ERR_LEDGER_UNAVAILABLE', `the ledger could not ${doing}; try again`, {
      cause,
      retryAfter: 2,
    })
  }
}

/** Money set aside for one call. Takes it, keeps it alive, and resolves it exactly once. */
export interface CallHold {
  readonly holdId: string
  /** Nano-units held now. */
  readonly held: () => Nanos
  /** Holds at least `amount`, or throws ERR_NO_BALANCE and holds what it held. */
  cover(amount: Nanos, block: Nanos): Promise<void>
  settle(settlement: Omit<Settlement, 'holdId'>): Promise<void>
  release(memo: string, receipt: string | null): Promise<void>
}

export async function takeHold(options: {
  book: TenantBook
  holdId: string
  requestId: string
  amount: Nanos
  clock: () => Date
}): Promise<CallHold> {
  const { book, holdId, requestId, amount, clock } = options
  const now = () => clock().getTime()
  const taken = { holdId, requestId, amount, now: now(), expiresAt: now() + HOLD_MS }
  await failClosed('take a hold', book.hold(taken))
  let held = amount
  const renewal = setInterval(() => {
    // A renewal that fails is tried again; if none succeeds the hold expires and the call is free.
    book.renew({ holdId, expiresAt: now() + HOLD_MS }).catch(() => {})
  }, RENEW_EVERY_MS)

  async function resolve(receipt: string | null, attempt: () => Promise<unknown>): Promise<void> {
    clearInterval(renewal)
    for (let tries = 1; ; tries++) {
      try {
        await attempt()
        return
      } catch (error) {
        const resolved = isGraftError(error) && error.code === 'ERR_HOLD_RESOLVED'
        // An earlier attempt may have succeeded with its answer lost: then our receipt is there.
        if (resolved && tries > 1 && receipt !== null)
          if ((await book.receipt(requestId).catch(() => null)) === receipt) return
        if (resolved || tries === SETTLE_ATTEMPTS)
          throw new GraftError(
            'ERR_LEDGER_UNAVAILABLE',
            'the call could not be settled; nothing was charged',
            { cause: error },
          )
      }
    }
  }

  return {
    holdId,
    held: () => held,
    async cover(amount, block) {
      if (amount <= held) return
      const needed = amount - held
      const extend = async (more: Nanos): Promise<void> => {
        await failClosed('extend a hold', book.extend({ holdId, amount: more }))
        held += more
      }
      try {
        await extend(Math.max(needed, block))
      } catch (error) {
        const refused = isGraftError(error) && error.code === 'ERR_NO_BALANCE'
        if (!refused || needed >= block) throw error
        // Less than a block is left: it is spent to the last token.
        await extend(needed)
      }
    },
    settle: (settlement) =>
      resolve(settlement.receipt, () => book.settle({ holdId, ...settlement })),
    release: (memo, receipt) => resolve(receipt, () => book.release({ holdId, memo, receipt })),
  }
}

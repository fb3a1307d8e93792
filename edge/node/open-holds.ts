import { isGraftError } from '@graft/sdk/format/errors.ts'
import type { TenantBooks } from '../ledger/tenant-book.ts'

/** Books that know which of their holds this process took and has not resolved, so that it can stop between calls. */
export function watchHolds(books: TenantBooks): TenantBooks & {
  /** Resolves when no hold of this process is open, or after `ms`. @returns how many are left */
  settled(ms: number): Promise<number>
} {
  const open = new Set<string>()
  async function resolve<T>(holdId: string, work: Promise<T>): Promise<T> {
    try {
      const balance = await work
      open.delete(holdId)
      return balance
    } catch (error) {
      // A failed settle is tried again; a hold that expired is nobody's any more.
      if (isGraftError(error) && error.code === 'ERR_HOLD_RESOLVED') open.delete(holdId)
      throw error
    }
  }
  return {
    book(tenant) {
      const book = books.book(tenant)
      return {
        ...book,
        async hold(request) {
          const balance = await book.hold(request)
          open.add(request.holdId)
          return balance
        },
        settle: (settlement) => resolve(settlement.holdId, book.settle(settlement)),
        release: (release) => resolve(release.holdId, book.release(release)),
      }
    },
    async settled(ms) {
      const end = performance.now() + ms
      while (open.size > 0 && performance.now() < end)
        await new Promise((resolve) => setTimeout(resolve, 10))
      return open.size
    },
  }
}

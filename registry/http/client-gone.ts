import { GraftError } from '@graft/sdk/format/errors.ts'
import type { RegistryContext } from './context.ts'

/**
 * What `e` is when it only says that the client hung up while its body was read: a refusal, and no defect of this server.
 * Anything else is given back as it came.
 */
export async function unlessGone(c: RegistryContext, e: Error): Promise<Error> {
  if (!('code' in e && e.code === 'ECONNRESET')) return e
  // The body fails a moment before the request is told that its connection closed.
  await new Promise((resolve) => setTimeout(resolve))
  if (!c.req.raw.signal.aborted) return e
  return new GraftError('ERR_CANCELLED', 'the client hung up before its body was read', {
    cause: e,
  })
}

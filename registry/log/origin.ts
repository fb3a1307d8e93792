import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import { isKeyName } from '@graft/sdk/format/tlog/verifier-key.ts'

/**
 * The log's name: the issuer's without its scheme, as tlog-tiles asks.
 * @throws ERR_REQUEST_INVALID when a note cannot carry it
 */
export function logOrigin(issuerName: string): string {
  const origin = issuerName.replace(/^https?:\/\//, '').replace(/\/+$/, '')
  // A text that begins like a cosigned one could be taken for it.
  if (isKeyName(origin) && origin !== 'cosignature/v1') return origin
  throw new GraftError(
    'ERR_REQUEST_INVALID',
    expected("the issuer's name", 'a name without spaces and "+"', issuerName),
  )
}

import { expected, GraftError } from './errors.ts'

/** When a key's signatures count. Times are ISO 8601 in UTC. */
export interface KeyEpoch {
  from: string
  /** The first moment after it; null while it goes on. */
  until: string | null
}

export interface KeyHistory {
  /** RFC 7638 thumbprint. */
  kid: string
  /** A key that was retired and taken back has two. */
  epochs: readonly KeyEpoch[]
  /** Its private half may be in other hands: nothing that it ever signed counts, whenever that was. */
  revoked: boolean
}

const milliseconds = (time: string, where: string): number => {
  const value = Date.parse(time)
  if (!Number.isNaN(value)) return value
  throw new GraftError('ERR_KEY_UNKNOWN', expected(where, 'an ISO 8601 time', time))
}

/**
 * A signature counts when its key was in an epoch at the time it was made. That time is the registry's (when it took the
 * signature in), never one that the signer states: a stolen key could state any.
 * @throws ERR_KEY_UNKNOWN for a key without history, ERR_KEY_REVOKED for one revoked or out of its epochs
 */
export function assertKeysCount(
  kids: readonly string[],
  histories: readonly KeyHistory[],
  signedAt: string,
): void {
  const at = milliseconds(signedAt, 'the time of signing')
  for (const kid of kids) {
    const history = histories.find((entry) => entry.kid === kid)
    if (!history)
      throw new GraftError('ERR_KEY_UNKNOWN', `key ${kid} is not a key of the publisher`)
    if (history.revoked)
      throw new GraftError(
        'ERR_KEY_REVOKED',
        `key ${kid} signed this and was revoked since; ask the publisher for a newer version`,
      )
    const inEpoch = history.epochs.some(
      ({ from, until }) =>
        milliseconds(from, `key ${kid}: from`) <= at &&
        (until === null || at < milliseconds(until, `key ${kid}: until`)),
    )
    if (!inEpoch)
      throw new GraftError(
        'ERR_KEY_REVOKED',
        `key ${kid} signed this on ${signedAt}, when it was not in use; ask the publisher for a version of a key in use`,
      )
  }
}

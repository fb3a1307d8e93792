import { concatBytes } from '../bytes.ts'
import { expected, GraftError } from '../errors.ts'

/** A uint16 counts the bytes of an entry. */
export const MAX_ENTRY_BYTES = 65_535

/** C2SP tlog-tiles: each entry behind its length, a big-endian uint16. @throws ERR_BODY_TOO_LARGE */
export const encodeEntries = (entries: readonly Uint8Array[]): Uint8Array<ArrayBuffer> =>
  concatBytes(
    entries.flatMap((entry) => {
      if (entry.length > MAX_ENTRY_BYTES)
        throw new GraftError(
          'ERR_BODY_TOO_LARGE',
          expected('log entry', `at most ${MAX_ENTRY_BYTES} bytes`, entry.length),
        )
      return [Uint8Array.of(entry.length >> 8, entry.length & 255), entry]
    }),
  )

/** @throws ERR_DIGEST_MISMATCH when the bundle ends within an entry or holds another count */
export function decodeEntries(bundle: Uint8Array, count: number): Uint8Array[] {
  const entries: Uint8Array[] = []
  let at = 0
  while (at < bundle.length) {
    const length = ((bundle[at] ?? 0) << 8) | (bundle[at + 1] ?? 0)
    const end = at + 2 + length
    if (end > bundle.length)
      throw new GraftError(
        'ERR_DIGEST_MISMATCH',
        expected(`entry ${entries.length} of the bundle`, `${length} bytes`, bundle.length - at),
      )
    entries.push(bundle.slice(at + 2, end))
    at = end
  }
  if (entries.length !== count)
    throw new GraftError(
      'ERR_DIGEST_MISMATCH',
      expected('entry bundle', `${count} entries`, entries.length),
    )
  return entries
}

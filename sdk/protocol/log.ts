/*
 * The registry's transparency log. C2SP tlog-tiles at the registry's address, and what they leave open:
 *
 *   GET  /checkpoint                       -> signed note (text): log signature, its cosignature/v1 with the time, witnesses'
 *   GET  /tile/<L>/<N>[.p/<W>]             -> hashes, 32 bytes each (immutable)
 *   GET  /tile/entries/<N>[.p/<W>]         -> entries behind their lengths (immutable)
 *   GET  /v1/log/key                       -> LogKey
 *   GET  /v1/log/entries?from=&limit=      -> LogFeed                     (for monitors)
 *   POST /v1/log/cosignatures              signed note (text) -> { accepted: number }
 *   GET  /v1/manifests/:digest/log         auth or capability -> LogProof
 */

export interface LogKey {
  /** First line of every checkpoint. */
  origin: string
  /** C2SP verifier key of the log; the same key cosigns with the time. */
  key: string
  /** Verifier keys of the witnesses whose cosignatures are taken. */
  witnesses: string[]
}

/** That a version's publication is entry `index` of the tree that `checkpoint` signs. */
export interface LogProof {
  index: number
  /** The entry's bytes as text: canonical JSON. */
  entry: string
  /** Base64, lowest first (RFC 9162 section 2.1.3). */
  hashes: string[]
  /** Signed note. */
  checkpoint: string
  /** Base64; of a private package, whose name and facts the entry holds as salted hashes. */
  salt?: string
}

export interface LogFeed {
  /** Leaves of the newest checkpoint; nothing beyond it is told. */
  size: number
  entries: { index: number; entry: string }[]
  /** `from` of the next question; the same as was asked while nothing is new. */
  next: number
}
